//! The seeds of the fuzz targets, replayed: whatever once broke a parser is tested by every run of the tests.

use super::in_repository;
use crate::fuzzing;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = in_repository("fuzz/corpus").join(target);
    let seeds: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(seeds.len() >= 3, "{}", folder.display());
    for seed in seeds {
        check(&std::fs::read(seed).unwrap());
    }
}

#[test]
fn version2() {
    replay("version2", fuzzing::version2);
}

#[test]
fn envelope() {
    replay("envelope", fuzzing::envelope);
}

#[test]
fn scanner() {
    replay("scanner", fuzzing::scanner);
}
