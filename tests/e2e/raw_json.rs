//! Raw JSON over a real socket: what `echo '…' | nc -U` meets, and what it must survive.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::client::{JsonClient, kind};
use crate::gateway::{Gateway, clean, end_of, run_tool};

/// The document of the README.
const TASK: &str = r#"{"task_id":"test1","payload":"hello"}"#;

fn echoing() -> Gateway {
    Gateway::with().tasks_to("demo.echo").gateway()
}

/// What the next line of `client` says, and that it is this kind of error.
fn expect_error(client: &mut JsonClient, expected: (u64, &str), of: &str) {
    let (code, message, word) = client.error();
    assert_eq!((code, word.as_str()), expected, "{of}: {message}");
}

#[test]
fn a_task_is_answered_by_one_line_of_json() {
    let gateway = Gateway::start();
    let reply: Value = serde_json::from_str(&gateway.json().ask(format!("{TASK}\n"))).unwrap();
    assert_eq!((&reply["ok"], &reply["demo"]), (&json!(true), &json!(true)));
    assert_eq!(reply["context"]["request_id"], "test1");
    gateway.stop();
}

#[test]
fn a_request_is_complete_when_its_value_is_without_newline_and_without_end_of_input() {
    let gateway = echoing();
    let mut client = gateway.json();
    for document in [TASK, "{}", "{\"a\":[{\"b\":\"}\\\"{\"}]}"] {
        assert_eq!(client.ask(document), document);
    }
    gateway.stop();
}

#[test]
fn many_documents_in_one_write_are_answered_in_order() {
    let gateway = echoing();
    let mut client = gateway.json();
    let documents: Vec<String> = (0..500).map(|number| format!("{{\"n\":{number}}}")).collect();
    for between in ["\n", "", " ", "\r\n\t\n"] {
        client.write(documents.join(between));
        for document in &documents {
            assert_eq!(client.line(), *document);
        }
    }
    gateway.stop();
}

#[test]
fn replies_of_bare_tasks_keep_their_order() {
    // The second is refused at once, and its error still waits for the silence of the first.
    let gateway = Gateway::with().tasks_to("demo.silent").set("routes.decide.timeout_ms=300").gateway();
    let mut client = gateway.json();
    client.write("{\"n\":1}{bad\n{\"n\":2}");
    for expected in [(5, "timed_out"), (4, "malformed"), (5, "timed_out")] {
        expect_error(&mut client, expected, "in order");
    }
    gateway.stop();
}

#[test]
fn a_document_split_at_every_byte_is_understood_as_a_whole_one() {
    let gateway = echoing();
    let mut client = gateway.json();
    let documents = ["{\"a\":\"\\\"}ä{\"}", "{\"b\":[1,{\"c\":-1.5e2}]}"];
    let bytes = documents.join("\n").into_bytes();
    let mut received = 0_u32;
    // The rest is written only when the gateway has read what comes before the cut.
    for cut in 1..bytes.len() {
        client.write(&bytes[..cut]);
        received += u32::try_from(cut).unwrap();
        gateway.until("ipc_gateway_door_received_bytes_total{door=\"unix\"}", received.into());
        client.write(&bytes[cut..]);
        received += u32::try_from(bytes.len() - cut).unwrap();
        for document in documents {
            assert_eq!(client.line(), document, "cut at {cut}");
        }
    }
    gateway.stop();
}

#[test]
fn a_bracket_that_is_missing_is_found_at_the_next_document_and_the_line_after_it_is_read() {
    let gateway = echoing();
    let mut client = gateway.json();
    for bad in ["{\"a\":1\n{}\n", "{\"a\":[1\n{}\n", "{\"a\"\n{}\n"] {
        client.write(bad);
        expect_error(&mut client, (4, "malformed"), bad);
        assert_eq!(client.ask(TASK), TASK, "{bad}");
    }
    gateway.stop();
}

#[test]
fn a_reply_of_several_lines_leaves_as_one() {
    let gateway = echoing();
    let reply = gateway.json().ask("{\n  \"a\": \"b c\",\r\n\t\"d\": 1\n}\n");
    assert_eq!(serde_json::from_str::<Value>(&reply).unwrap(), json!({"a": "b c", "d": 1}));
    gateway.stop();
}

#[test]
fn what_is_not_json_is_error_4_and_the_next_line_is_read() {
    let gateway = echoing();
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let cases: &[(&str, &[u8])] = &[
        ("bad UTF-8", b"{\"a\":\"\xC3\x28\"}"),
        ("an overlong NUL", b"{\"a\":\"\xC0\x80\"}"),
        ("UTF-8 of a surrogate", b"{\"a\":\"\xED\xA0\x80\"}"),
        ("depth 10,000", deep.as_bytes()),
        ("1e400", b"{\"a\":1e400}"),
        ("-1e400", b"{\"a\":-1e400}"),
        ("NUL in a text", b"{\"a\":\"\0\"}"),
        ("NUL between", b"{\"a\":\0 1}"),
        ("a lone surrogate", b"{\"a\":\"\\ud800\"}"),
        ("a lone low surrogate", b"{\"a\":\"\\udc00 \"}"),
        ("surrogates in the wrong order", b"{\"a\":\"\\udc00\\ud800\"}"),
        ("no quotes", b"{a:1}"),
        ("a comma too many", b"{\"a\":1,}"),
        ("a leading zero", b"{\"a\":01}"),
        ("NaN", b"{\"a\":NaN}"),
        ("the wrong bracket", b"{\"a\":[1}"),
        ("nothing but an end", b"}"),
        ("an array", b"[1,2]"),
        ("a number", b"17 "),
        ("a word", b"hello"),
    ];
    for (name, document) in cases {
        let mut client = gateway.json();
        client.write("{}\n");
        assert_eq!(client.line(), "{}");
        client.write(document);
        client.write("\n");
        expect_error(&mut client, (4, "malformed"), name);
        assert_eq!(client.ask(TASK), TASK, "{name}");
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.door("panics_total"), 0.0);
    gateway.stop();
}

#[test]
fn an_error_is_one_line_with_the_number_and_the_gateways_own_code() {
    let gateway = echoing();
    let mut client = gateway.json();
    client.write("{]\n");
    let line = client.line();
    let body: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&body["ok"], &body["error"]["code"]), (&json!(false), &json!(4)), "{line}");
    assert!(body["error"]["message"].as_str().unwrap().starts_with("Invalid payload"), "{line}");
    gateway.stop();
}

#[test]
fn a_hundred_megabytes_without_an_end_are_too_large_and_the_gateway_lives_on() {
    let gateway = echoing();
    let before = gateway.metrics().held();
    let (mut client, mut other) = (gateway.json(), gateway.json());
    client.write("{\"a\":\"");
    let chunk = vec![b'x'; 1_000_000];
    for _ in 0..100 {
        client.write(&chunk);
        assert_eq!(other.ask(TASK), TASK);
        let used = gateway.metrics().of("ipc_gateway_memory_used_bytes");
        assert!(used <= 12_000_000.0, "{used} bytes are held for a document of at most 4 MiB");
    }
    expect_error(&mut client, (3, "too_large"), "100 MB");
    // One error for it, and then it is over with its line.
    assert_eq!(client.ask(format!("\"}}\n{TASK}\n")), TASK);
    drop((client, other));
    gateway.until_held(&before);
    gateway.stop();
}

#[test]
fn the_largest_document_comes_back_and_one_byte_more_is_too_large() {
    let gateway = echoing();
    let mut client = gateway.json();
    let of_bytes = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - "{\"a\":\"\"}".len()));
    let largest = of_bytes(4 * 1024 * 1024);
    assert!(client.ask(&largest) == largest);
    client.write(of_bytes(4 * 1024 * 1024 + 1) + "\n");
    expect_error(&mut client, (3, "too_large"), "a byte more");
    assert_eq!(client.ask(TASK), TASK);
    gateway.stop();
}

#[test]
fn a_document_that_is_never_finished_is_closed_after_the_read_deadline() {
    let gateway = Gateway::with().set("ipc.body_timeout_ms=100").gateway();
    let mut client = gateway.json();
    client.write("{\"a\":");
    expect_error(&mut client, (5, "timed_out"), "half a document");
    client.expect_closed();
    gateway.stop();
}

#[test]
fn an_end_of_input_within_a_document_is_told() {
    let gateway = echoing();
    let mut client = gateway.json();
    client.write(format!("{TASK}{{\"a\":"));
    client.finish();
    assert_eq!(client.line(), TASK);
    expect_error(&mut client, (4, "malformed"), "half a document");
    client.expect_closed();
    gateway.stop();
}

#[test]
fn a_client_that_ends_its_input_gets_its_replies_and_then_the_end() {
    let gateway = echoing();
    let mut client = gateway.json();
    client.write(format!("{TASK}\n{{}}"));
    client.finish();
    assert_eq!((client.line(), client.line()), (TASK.to_owned(), "{}".to_owned()));
    client.expect_closed();
    gateway.stop();
}

#[test]
fn white_space_first_is_raw_json_too() {
    let gateway = echoing();
    for space in [" ", "\t", "\r\n", "\n\n  "] {
        assert_eq!(gateway.json().ask(format!("{space}{TASK}")), TASK);
    }
    gateway.stop();
}

#[test]
fn any_other_first_byte_is_a_version_1_error_frame_of_code_3_and_close() {
    let gateway = Gateway::start();
    for first in
        ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "[1]\n", "\"a\"\n", "hello\n", "\u{1}", "\u{feff}{}"]
    {
        let mut client = gateway.client();
        client.write(first.as_bytes());
        let reply = client.receive();
        assert_eq!(reply.kind, kind::RESPONSE_ERROR);
        let (code, message, word) = reply.error();
        assert_eq!((code, word.as_str()), (3, "too_large"), "{first}: {message}");
        client.expect_closed();
    }
    gateway.stop();
}

#[test]
fn a_documents_own_op_is_no_envelope() {
    let gateway = echoing();
    let mut client = gateway.json();
    for task in [r#"{"op":"move","id":1}"#, r#"{"id":1,"x":{"op":"request"}}"#, r#"{"op":null}"#] {
        assert_eq!(client.ask(task), task);
    }
    gateway.stop();
}

/// Whether this machine has the netcat that speaks to Unix sockets.
fn has_nc() -> bool {
    let help = run_tool("nc", &["-h"], b"");
    let has = help.is_some_and(|help| String::from_utf8_lossy(&help.stderr).contains('U'));
    if !has {
        println!("no nc with -U here: tests/run installs it");
    }
    has
}

#[test]
fn nc_that_ends_its_input_prints_one_line_and_ends() {
    if !has_nc() {
        return;
    }
    let gateway = Gateway::start();
    let socket = gateway.socket();
    let output = run_tool("nc", &["-N", "-U", socket.to_str().unwrap()], format!("{TASK}\n").as_bytes());
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["context"]["request_id"], "test1");
    gateway.stop();
}

#[test]
fn nc_that_does_not_end_its_input_prints_one_line_too() {
    if !has_nc() {
        return;
    }
    let gateway = Gateway::start();
    let mut command = clean("nc");
    command.arg("-U").arg(gateway.socket()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut nc = command.spawn().unwrap();
    // Its own input ends, as that of `echo … | nc` does; it tells nobody.
    nc.stdin.take().unwrap().write_all(format!("{TASK}\n").as_bytes()).unwrap();
    let mut line = String::new();
    // Kept: nc ends when nobody reads what it prints.
    let mut output = BufReader::new(nc.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(reply["context"]["request_id"], "test1");
    assert_eq!(gateway.metrics().door("connections"), 1.0);
    // It waits for the gateway, so it ends with it.
    gateway.stop();
    end_of(&mut nc);
    assert_eq!(output.read_line(&mut line).unwrap(), 0, "{line}");
}
