//! What `GET /` and the `OpenAPI` document say, against what the door does.

use contract::error::TABLE;

use crate::fixture::Running;

#[tokio::test]
async fn everything_that_is_listed_is_there_and_described() {
    // What is mounted beside the door is listed too, and described in a document of its own.
    let gateway = Running::start(&[("websocket.enabled", "false")]).await;
    let index = gateway.ask("GET", "/", "", "").await.json();
    let document = gateway.ask("GET", "/openapi.json", "", "").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let entries = index["paths"].as_array().unwrap();
    let mut described = 0;
    for operations in document["paths"].as_object().unwrap().values() {
        described += operations.as_object().unwrap().len();
    }
    assert_eq!(described, entries.len());
    for entry in entries {
        let (method, path) = (entry["method"].as_str().unwrap(), entry["path"].as_str().unwrap());
        let operation = &document["paths"][path][method.to_ascii_lowercase()];
        assert!(operation["operationId"].is_string(), "{method} {path} is not described");
        // Every part in braces is a parameter, and the other way round.
        let parameters = operation["parameters"].as_array().unwrap();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        for parameter in in_path.clone() {
            assert!(path.contains(&format!("{{{}}}", parameter["name"].as_str().unwrap())), "{path}");
        }
        assert_eq!(path.matches('{').count(), in_path.count(), "{path}");
        // A subject that is refused is enough to see that the path is there, and takes no other method.
        let filled = path.replace("{subject}", "a..b").replace("{pattern}", "a..b");
        let answer = gateway.ask(method, &filled, "", "").await;
        assert!(!matches!(answer.status(), 404 | 405), "{method} {path}: {answer:?}");
        let media = answer.header("content-type").unwrap();
        let of = if answer.status() == 200 { "200" } else { "default" };
        assert!(operation["responses"][of]["content"].get(media).is_some(), "{method} {path}: {media}");
        let refused = gateway.ask("DELETE", &filled, "", "").await;
        refused.problem(405, "unsupported");
        assert!(refused.header("allow").unwrap().contains(method), "{refused:?}");
    }
    for path in ["/nothing", "/v1", "/v1/request", "/v1/request/a/b", "//", "/v1/subscribe/"] {
        gateway.ask("GET", path, "", "").await.problem(404, "not_found");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn every_kind_of_error_and_every_member_of_a_problem_is_described() {
    let gateway = Running::start(&[]).await;
    let document = gateway.ask("GET", "/openapi.json", "", "").await.json();
    let problem = &document["components"]["schemas"]["Problem"];
    let kinds = problem["properties"]["kind"]["enum"].as_array().unwrap();
    assert_eq!(kinds.len(), TABLE.len());
    for row in TABLE {
        assert!(kinds.contains(&row.code.into()), "{}", row.code);
    }
    for (path, timeout) in [("demo.fail", "5s"), ("demo.silent", "20ms"), ("nobody", "1s"), ("a..b", "1s")] {
        let header = format!("X-Request-Timeout: {timeout}\r\n");
        let answer = gateway.ask("POST", &format!("/v1/request/{path}"), &header, "").await.json();
        for member in answer.as_object().unwrap().keys() {
            assert!(problem["properties"].get(member).is_some(), "{member} of {path}");
        }
        for member in problem["required"].as_array().unwrap() {
            assert!(answer.get(member.as_str().unwrap()).is_some(), "{member} is missing in {path}");
        }
        assert!(problem["properties"]["type"]["enum"].as_array().unwrap().contains(&answer["type"]));
    }
    gateway.stop().await;
}

#[test]
fn the_documentation_has_the_statuses_of_the_error_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocols/http.md");
    let text = std::fs::read_to_string(path).unwrap();
    // The cells of the one table that has two kinds a line.
    let table = text.lines().skip_while(|line| !line.starts_with("| kind | status | |"));
    let rows: Vec<Vec<&str>> = table
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for row in TABLE {
        let kind = format!("`{}`", row.code);
        let named = rows.iter().flat_map(|cells| cells.windows(2)).find(|pair| pair[0].contains(&kind));
        let status = named.unwrap_or_else(|| panic!("{kind} is not in {path}"))[1];
        assert!(status.contains(&row.http.to_string()), "{kind} is {} and not {status}", row.http);
    }
}
