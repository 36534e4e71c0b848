//! `request`, `publish` and `ping`: where payloads come from, what is printed, what the exit code says.

use std::io::Read;

use rustix::process::Signal;
use serde_json::json;

use crate::program::{Gateway, Running, command, run};

/// Every way in that knows subjects.
const VIAS: [&str; 6] = ["unix", "json", "ws", "ws-binary", "http", "grpc"];

#[test]
fn an_answer_is_printed_as_it_is_by_every_way_in() {
    let gateway = Gateway::start();
    for via in VIAS {
        for payload in ["hello", r#"{"a": [1, "ä"]}"#, "null", ""] {
            let ran = gateway.run(&["request", "demo.echo", payload, "--via", via]);
            assert_eq!((ran.code, ran.text(), &*ran.complaints), (0, payload, ""), "{via}");
        }
    }
    for via in ["unix-v1", "tasks"] {
        let ran = gateway.run(&["request", "task_submit", r#"{"task_id":"t1"}"#, "--via", via]);
        assert!(ran.code == 0 && ran.text().contains(r#""request_id":"t1""#), "{via}: {ran:?}");
    }
}

#[test]
fn an_answer_of_many_messages_is_printed_message_by_message_by_every_way_in_that_can_tell_it() {
    let gateway = Gateway::start_with(&[
        "--set",
        "routes.count.patterns=demo.count",
        "--set",
        "routes.count.allow=any",
        "--set",
        "routes.count.replies_max=3",
    ]);
    let line = |number: usize, of: usize| format!("{{\"demo\":true,\"number\":{number},\"of\":{of}}}\n");
    let three: String = (1..=3).map(|number| line(number, 3)).collect();
    for via in VIAS {
        let ran = gateway.run(&["request", "demo.count", "3", "--via", via]);
        assert_eq!((ran.code, ran.text(), &*ran.complaints), (0, &*three, ""), "{via}");
        let ran = gateway.run(&["request", "demo.count", "2", "--via", via, "--json"]);
        let objects: Vec<serde_json::Value> =
            ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |name: &str| objects.iter().map(|object| object[name].clone()).collect::<Vec<_>>();
        assert_eq!(of("more"), [json!(true), json!(true), json!(null)], "{via}: {objects:?}");
        assert_eq!(objects[1]["payload"]["number"], 2, "{via}");
        // What came is printed, and then how it was cut off.
        let ran = gateway.run(&["request", "demo.count", "5", "--via", via]);
        assert_eq!(ran.text().lines().count(), 3, "{via}: {ran:?}");
        ran.assert_complains(4, &["too_large", "unknown"]);
        let ran = gateway.run(&["request", "demo.count", "1", "--via", via]);
        assert!(ran.code == 0 && ran.text().contains("\"of\":1"), "{via}: {ran:?}");
    }
    gateway.run(&["request", "demo.count", "1001"]).assert_complains(6, &["invalid_request"]);
}

#[test]
fn a_payload_comes_from_the_argument_a_file_or_standard_input() {
    let gateway = Gateway::start();
    let bytes = [0, 255, b'\n', 7];
    std::fs::write(gateway.place().path().join("payload"), bytes).unwrap();
    let from_file = gateway.run(&["request", "demo.echo", "@payload"]);
    assert_eq!((from_file.code, &*from_file.out), (0, &bytes[..]));
    for arguments in [&["request", "demo.echo", "-"][..], &["request", "demo.echo"]] {
        let from_input = run(gateway.command(arguments), &bytes);
        assert_eq!((from_input.code, &*from_input.out), (0, &bytes[..]), "{arguments:?}");
    }
    gateway.run(&["request", "demo.echo", "@nothing"]).assert_complains(2, &["nothing", "No such file"]);
}

#[test]
fn the_exit_code_says_what_kind_of_failure_it_was() {
    let gateway = Gateway::start();
    let large = "x".repeat(5 << 20);
    std::fs::write(gateway.place().path().join("large"), large).unwrap();
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (
            &["demo.silent", "x", "--timeout", "100ms"],
            3,
            &["timed_out", "demo.silent", "unknown", "--timeout"],
        ),
        (&["a..b", "x"], 4, &["invalid", "a..b", "not_sent"]),
        (&["$SYS.x", "x"], 4, &["denied"]),
        (&["demo.echo", "@large"], 4, &["too_large", "not_sent"]),
        (&["demo.echo", "x", "--via", "unix-v1"], 4, &["unsupported", "task_submit"]),
        (&["demo.echo", "x", "--via", "tasks"], 4, &["unsupported", "task_submit"]),
        (&["nobody.there", "x"], 5, &["no_responders", "nobody.there", "start a service"]),
        (&["demo.fail", "x"], 6, &["failed", "demo_failure"]),
    ];
    for (arguments, code, parts) in cases {
        let ran = gateway.run(&[&["request"], arguments].concat());
        ran.assert_complains(code, parts);
    }
    // The service's own answer is the answer, also when it is a no.
    assert!(gateway.run(&["request", "demo.fail", "x"]).text().contains("demo.fail always fails"));
}

#[test]
fn without_a_gateway_it_is_said_where_it_was_looked_for() {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("none");
    let socket = socket.to_str().unwrap();
    for subcommand in [&["ping"][..], &["request", "a", "x"], &["publish", "a", "x"], &["subscribe", "a"]] {
        let ran = run(command(&[subcommand, &["--socket", socket]].concat()), b"");
        ran.assert_complains(1, &["cannot connect", socket, "--socket"]);
        // Nobody listens on port 1.
        for via in ["ws", "ws-binary", "http"] {
            let ran =
                run(command(&[subcommand, &["--via", via, "--url", "http://127.0.0.1:1"]].concat()), b"");
            ran.assert_complains(1, &["cannot connect", "127.0.0.1:1", "--url"]);
        }
    }
    for url in ["127.0.0.1:1", "https://a", "http://a/b", "http://a?b", "http://me@a"] {
        assert_eq!(run(command(&["ping", "--via", "http", "--url", url]), b"").code, 2, "{url}");
    }
    for wrong in [&["request"][..], &["request", "a", "--timeout", "2x"], &["request", "a", "--via", "smoke"]]
    {
        assert_eq!(run(command(wrong), b"").code, 2, "{wrong:?}");
    }
    for header in ["no-value", "a b=c"] {
        let ran = run(command(&["request", "a", "x", "--header", header, "--socket", socket]), b"");
        assert_eq!(ran.code, 2, "{header}");
    }
}

#[test]
fn json_is_an_object_a_line() {
    let gateway = Gateway::start();
    for via in VIAS {
        let ran = gateway.run(&["request", "demo.echo", "{\"a\":\n1}", "--json", "--via", via]);
        let [object] = &ran.objects()[..] else { panic!("{ran:?}") };
        assert_eq!((&object["ok"], &object["payload"]), (&json!(true), &json!({"a": 1})));
        let headers = match via {
            // Names have no case there, and the door says what the payload looks like.
            "http" => json!({"content-type": "application/json", "ipc-gateway-demo": "true"}),
            _ => json!({"Ipc-Gateway-Demo": "true"}),
        };
        assert_eq!(object["headers"], headers, "{via}");
        assert!(object["elapsed_ms"].is_number());
        let ran = gateway.run(&["request", "demo.echo", "text", "--json", "--via", via]);
        assert_eq!(ran.objects()[0]["payload_base64"], "dGV4dA==");
        let ran = gateway.run(&["request", "demo.fail", "x", "--json", "--via", via]);
        let [object] = &ran.objects()[..] else { panic!("{ran:?}") };
        assert_eq!((ran.code, &object["ok"], &object["error"]["kind"]), (6, &json!(false), &json!("failed")));
        assert_eq!(object["error"]["backend_code"], "demo_failure");
        assert_eq!(object["payload"]["error"]["code"], "demo_failure");
    }
}

#[test]
fn many_rounds_are_summarized() {
    let gateway = Gateway::start();
    let ran = gateway.run(&["request", "demo.echo", "x", "--count", "5"]);
    assert_eq!((ran.code, ran.text()), (0, "x\nx\nx\nx\nx\n"));
    assert!(ran.complaints.starts_with("5 ok: min "), "{ran:?}");
    let ran = gateway.run(&["request", "nobody.there", "x", "--count", "3", "--json"]);
    let objects = ran.objects();
    assert_eq!((ran.code, objects.len()), (5, 4));
    assert_eq!(objects[3]["summary"]["failed"], json!({"no_responders": 3}));
    let ran = gateway.run(&["ping", "--count", "4", "--json"]);
    let objects = ran.objects();
    assert_eq!((ran.code, objects.len()), (0, 5));
    assert!(objects[4]["summary"]["milliseconds"]["p50"].as_f64().unwrap() > 0.0);
    let ran = gateway.run(&["publish", "any.subject", "x", "--count", "2", "--json"]);
    assert_eq!((ran.code, &ran.objects()[2]["summary"]["ok"]), (0, &json!(2)));
}

#[test]
fn ping_and_publish_need_no_responder() {
    let gateway = Gateway::start();
    for via in ["unix", "unix-v1", "json", "ws", "ws-binary", "http", "grpc"] {
        let ran = gateway.run(&["ping", "--via", via]);
        assert!(ran.code == 0 && ran.text().starts_with("pong from "), "{via}: {ran:?}");
    }
    for via in VIAS {
        let options = ["--idempotent", "--header", "X-Request-Id=1", "--via", via];
        let ran = gateway.run(&[&["publish", "any.subject", "x"], &options[..]].concat());
        assert_eq!((ran.code, ran.text(), &*ran.complaints), (0, "", ""), "{via}");
    }
}

#[test]
fn headers_and_the_trace_reach_the_responder() {
    let server = crate::nats_server::NatsServer::start("");
    let listed = ["--set", "http.request_headers=x-*"];
    let gateway = Gateway::start_with(&[&["--nats-url", &server.url()], &listed[..]].concat());
    gateway.until_ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let mut requests = client.subscribe("outside.service").await.unwrap();
        // A message that comes back says that the server has read the subscription; a flush does not.
        let inbox = client.new_inbox();
        let mut back = client.subscribe(inbox.clone()).await.unwrap();
        client.publish(inbox, "".into()).await.unwrap();
        futures_util::StreamExt::next(&mut back).await.unwrap();
        for via in VIAS {
            let traceparent = format!("00-{trace}-b7ad6b7169203331-01");
            let mut asking = gateway.command(&["request", "outside.service", "x", "--via", via]);
            asking.args([
                "--header",
                "X-Color=blue",
                "--header",
                "X-Color=red",
                "--traceparent",
                &traceparent,
            ]);
            let mut asking = tokio::task::spawn_blocking(move || run(asking, b""));
            let request = tokio::select! {
                request = futures_util::StreamExt::next(&mut requests) => request.unwrap(),
                // Whoever gave up before anybody was asked says why.
                ran = &mut asking => panic!("{via}: {:?}", ran.unwrap()),
            };
            let headers = request.headers.unwrap();
            let colours: Vec<_> = headers.get_all("X-Color").map(ToString::to_string).collect();
            assert_eq!(colours, ["blue", "red"], "{via}");
            assert!(headers.get("traceparent").unwrap().as_str().contains(trace), "{via}");
            client.publish(request.reply.unwrap(), "answer".into()).await.unwrap();
            let ran = asking.await.unwrap();
            assert_eq!((ran.code, ran.text()), (0, "answer"), "{via}");
        }
    });
}

#[test]
fn a_url_names_a_gateway_anywhere() {
    let gateway = Gateway::start();
    let url = format!("http://{}", gateway.http());
    for via in ["ws", "ws-binary", "http"] {
        let asking = ["request", "demo.echo", "hello", "--via", via, "--url", &url];
        let ran = run(command(&asking), b"");
        assert_eq!((ran.code, ran.text()), (0, "hello"), "{via}: {ran:?}");
    }
}

#[test]
fn a_door_that_is_full_says_so() {
    let gateway =
        Gateway::start_with(&["--set", "websocket.connections_max=1", "--set", "embedded.tick_ms=20"]);
    let mut first = Running::start(gateway.command(&["subscribe", "demo.tick", "--via", "ws"]));
    assert!(first.line().contains("tick"));
    let ran = gateway.run(&["ping", "--via", "ws-binary"]);
    ran.assert_complains(5, &["refused the connection", "overloaded"]);
}

#[test]
fn a_gateway_that_stands_still_is_not_waited_for_for_ever() {
    let gateway = Gateway::start();
    gateway.signal(Signal::STOP);
    let ran = gateway.run(&["request", "demo.echo", "x", "--timeout", "50ms"]);
    gateway.signal(Signal::CONT);
    ran.assert_complains(3, &["timed_out", "the gateway itself did not answer"]);
}

#[test]
fn a_signal_ends_a_question() {
    let gateway = Gateway::start();
    // A server that is asked shows that the question is on its way.
    let mut asking = Running::start(gateway.command(&["request", "demo.slow", "60000"]));
    let pages = || gateway.run(&["status", "--json", "--interval", "1ms"]).objects().remove(0);
    while pages()["doors"]["unix"]["in_flight"] != 1.0 {}
    asking.signal(Signal::INT);
    let (status, rest) = asking.end();
    assert_eq!((status.code(), &*rest), (Some(130), ""));
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(command(&["completions", shell]), b"");
        assert!(ran.code == 0 && ran.text().contains("subscribe"), "{shell}");
        assert!(ran.complaints.is_empty());
    }
    // A reader that goes away is no failure.
    let mut running = command(&["completions", "bash"]).spawn().unwrap();
    drop(running.stdout.take());
    assert_eq!(running.wait().unwrap().code(), Some(0));
    let mut complaints = String::new();
    running.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    assert_eq!(complaints, "");
}
