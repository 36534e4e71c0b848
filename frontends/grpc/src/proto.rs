//! The messages, the service and its client, as made from `proto/gateway/v1/`.

#![expect(
    clippy::pedantic,
    unused_qualifications,
    reason = "generated code is tidy in its own way; its documentation is in the .proto files"
)]

tonic::include_proto!("gateway.v1");

/// The files and all that they import, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gateway.fds"));

/// `buf lint`'s standard rules, as far as they can be broken by a change here.
#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Message as _;
    use prost_types::{FileDescriptorProto, FileDescriptorSet};

    use super::*;

    fn own() -> Vec<FileDescriptorProto> {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let own: Vec<_> = files.into_iter().filter(|file| file.package() == "gateway.v1").collect();
        assert_eq!(own.len(), 2);
        own
    }

    fn is_pascal(name: &str) -> bool {
        name.starts_with(|letter: char| letter.is_ascii_uppercase()) && !name.contains('_')
    }

    fn is_lower_snake(name: &str) -> bool {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    }

    #[test]
    fn each_method_has_a_request_and_a_response_of_its_own() {
        let mut used = HashSet::new();
        let services: Vec<_> = own().into_iter().flat_map(|file| file.service).collect();
        assert_eq!(services.len(), 1);
        for method in &services[0].method {
            let name = method.name();
            for (message, kind) in [(method.input_type(), "Request"), (method.output_type(), "Response")] {
                assert_eq!(message, format!(".gateway.v1.{name}{kind}"));
                assert!(used.insert(message.to_owned()), "{message} is used twice");
            }
        }
        assert!(services[0].name().ends_with("Gateway"));
    }

    #[test]
    fn names_have_their_form_and_values_their_prefix() {
        for file in own() {
            assert!(
                file.name().starts_with("gateway/v1/")
                    && is_lower_snake(&file.name()[11..file.name().len() - 6])
            );
            for message in &file.message_type {
                assert!(is_pascal(message.name()), "{}", message.name());
                for field in &message.field {
                    assert!(is_lower_snake(field.name()), "{}", field.name());
                }
            }
            for kind in &file.enum_type {
                let mut prefix = String::new();
                for letter in kind.name().chars() {
                    if letter.is_ascii_uppercase() && !prefix.is_empty() {
                        prefix.push('_');
                    }
                    prefix.push(letter.to_ascii_uppercase());
                }
                assert_eq!(kind.value[0].name(), format!("{prefix}_UNSPECIFIED"));
                assert_eq!(kind.value[0].number(), 0);
                let prefix = format!("{prefix}_");
                assert!(kind.value.iter().all(|value| value.name().starts_with(&prefix)), "{prefix}");
            }
        }
    }

    /// The comments are the reference: every message, field, method and value has one.
    #[test]
    fn everything_has_a_comment() {
        for file in own() {
            let documented: HashSet<Vec<i32>> = file
                .source_code_info
                .iter()
                .flat_map(|info| &info.location)
                .filter(|location| !location.leading_comments().trim().is_empty())
                .map(|location| location.path.clone())
                .collect();
            let mut expected = Vec::new();
            let count = |list: usize| 0..i32::try_from(list).unwrap();
            // Numbers of the fields of FileDescriptorProto and its parts (descriptor.proto).
            for message in count(file.message_type.len()) {
                expected.push(vec![4, message]);
                let of = &file.message_type[usize::try_from(message).unwrap()];
                expected.extend(count(of.field.len()).map(|field| vec![4, message, 2, field]));
            }
            for kind in count(file.enum_type.len()) {
                expected.push(vec![5, kind]);
                let of = &file.enum_type[usize::try_from(kind).unwrap()];
                expected.extend(count(of.value.len()).map(|value| vec![5, kind, 2, value]));
            }
            for service in count(file.service.len()) {
                expected.push(vec![6, service]);
                let of = &file.service[usize::try_from(service).unwrap()];
                expected.extend(count(of.method.len()).map(|method| vec![6, service, 2, method]));
            }
            for path in expected {
                assert!(documented.contains(&path), "{} has no comment at {path:?}", file.name());
            }
        }
    }
}
