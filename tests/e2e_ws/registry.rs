//! Keeps the close codes in the documentation equal to the program's.

use std::path::Path;

use contract::error::TABLE;

#[test]
fn the_documented_close_codes_are_the_programs() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocols/websocket.md");
    let text = std::fs::read_to_string(page).unwrap();
    let cells = |line: &str| {
        let mut cells =
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        (cells.next().unwrap(), cells.next().unwrap())
    };
    let documented: Vec<_> = text
        .lines()
        .skip_while(|line| !line.starts_with("| code | kind |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    let own = websocket::close::CODES.iter().map(|(code, _)| (code.to_string(), String::new()));
    let kinds = TABLE.iter().map(|row| (row.websocket.to_string(), row.code.to_owned()));
    let mut expected: Vec<_> = own.chain(kinds).collect();
    expected.sort();
    let mut sorted = documented.clone();
    sorted.sort();
    assert_eq!(sorted, expected);
    assert_eq!(documented, sorted, "by code, so that a reader finds them");
}
