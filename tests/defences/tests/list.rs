//! The list stays true while the code changes, without building anything: each text and each test is where its row
//! says, and the page is current.

#![expect(
    clippy::unwrap_used,
    reason = "tests state their expectations with unwrap, in functions they share too"
)]

use defences::list::{Area, Test};
use defences::{check, list, page};

fn areas() -> Vec<Area> {
    list::read(&list::root()).unwrap()
}

#[test]
fn each_defence_and_each_test_is_where_its_row_says() {
    let findings = check::findings(&list::root(), &areas());
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn a_row_that_is_wrong_is_found() {
    let wrong = |change: fn(&mut Area)| {
        let mut area = areas().remove(0);
        area.defences.truncate(1);
        change(&mut area);
        check::findings(&list::root(), &[area])
    };
    assert_eq!(wrong(|_| ()), Vec::<String>::new());
    let faults: [fn(&mut Area); 8] = [
        |area| area.defences.clear(),
        |area| area.defences.push(area.defences[0].clone()),
        |area| area.defences[0].name = "Two words".into(),
        |area| area.defences[0].fault.push('|'),
        |area| area.defences[0].off = area.defences[0].text.clone(),
        |area| area.defences[0].text = "\n".into(),
        |area| area.defences[0].file.push('x'),
        |area| area.defences[0].test.name.push('x'),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        assert_eq!(wrong(fault).len(), 1, "fault {number}");
    }
}

#[test]
fn tests_are_named_as_cargo_takes_them() {
    for text in ["-p ipc-gateway --lib a::b", "-p ipc-gateway-wire --test allocations c"] {
        assert_eq!(Test::parse(text).unwrap().to_string(), text);
    }
    for text in ["", "a::b", "-p ipc-gateway a", "-p ipc-gateway --lib", "--lib a", "-p x --test y"] {
        assert_eq!(Test::parse(text), None, "{text}");
    }
}

#[test]
fn the_page_is_current() {
    let written = std::fs::read_to_string(list::root().join(page::PLACE)).unwrap();
    assert_eq!(written, page::text(&areas()), "the page is old: tests/defences/run --page");
}
