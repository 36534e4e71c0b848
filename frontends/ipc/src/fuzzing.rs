//! What must hold for any bytes that a client of version 1 or 2 sends in frames: called by a fuzz target in
//! `fuzz/` and, with the seeds there, by the tests.

use contract::ByteBudget;

use crate::exchange::{Dialect, Said};
use crate::frame;
use crate::framed::Framed;

/// A stream of frames: it never panics, ends at the first thing that is no frame, and means the same however it
/// is cut.
pub fn frames(bytes: &[u8]) {
    let whole = hear([bytes]);
    for size in [1, 5, 64] {
        assert_eq!(hear(bytes.chunks(size)), whole, "in pieces of {size}");
    }
}

fn hear<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut dialect = Framed::new(frame::decoder(ByteBudget::new(usize::MAX)), false);
    let mut heard = Vec::new();
    for mut piece in pieces {
        while let Some(said) = dialect.hear(&mut piece) {
            let is_last = matches!(said, Said::Last(_));
            heard.push(match said {
                // What the payload costs differs with the pieces that it came in.
                Said::Task { kind, payload, .. } => format!("{kind:?} {payload:?}"),
                Said::Question(question, _) => format!("{question:?}"),
                said => format!("{said:?}"),
            });
            if is_last {
                return heard;
            }
        }
        assert!(piece.is_empty(), "the decoder takes all it is given");
    }
    heard
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_seeds_are_heard() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/frames");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 3);
        for seed in seeds {
            super::frames(&std::fs::read(seed).unwrap());
        }
    }
}
