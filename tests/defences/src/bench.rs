//! The run: each test is seen to pass, then each defence is switched off in turn and its test must fail.
//!
//! One defence at a time, since two that are off together prove nothing of either. Rows of one package follow each
//! other, and of those the ones with the same program of tests: what one row leaves behind is built again anyway for
//! the next.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::copy::Copy;
use crate::list::{Defence, Test};
use crate::testee::{End, Testees};

/// What came of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The test failed with the defence off, as it must; what it said.
    Caught(String),
    /// The test passed with the defence off: it does not see it.
    NotCaught,
    /// Nothing was proven, and why: it does not build with the defence off, or the test fails with it on.
    Error(String),
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// What was switched off.
    pub defence: &'a Defence,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took, building included.
    pub took: Duration,
}

/// The order in which rows are run.
pub fn in_order<'a>(defences: impl IntoIterator<Item = &'a Defence>) -> Vec<&'a Defence> {
    let mut rows: Vec<_> = defences.into_iter().collect();
    rows.sort_by_key(|row| {
        (row.package(), row.test.package.clone(), row.test.program.clone(), row.file.clone())
    });
    rows
}

/// Runs the rows; `say` gets a line for each step.
///
/// # Errors
///
/// The sources cannot be copied, or a program cannot be started.
pub async fn run<'a>(
    root: &Path,
    scratch: &Path,
    rows: &[&'a Defence],
    jobs: Option<usize>,
    say: &mut (dyn FnMut(&str) + Send),
) -> io::Result<Vec<Line<'a>>> {
    fs::create_dir_all(scratch)?;
    let lock = fs::File::create(scratch.join("lock"))?;
    lock.try_lock().map_err(|_| io::Error::other("another run is at work in the same folder"))?;
    let copy = Copy::bring_up_to_date(root, &scratch.join("sources"))?;
    let testees = Testees::new(copy.root(), &scratch.join("target"), jobs);
    let logs = scratch.join("logs");
    fs::create_dir_all(&logs)?;

    let as_it_is = as_it_is(&testees, rows, &logs, say).await?;
    let mut lines = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let began = Instant::now();
        let verdict = if let Some(wrong) = as_it_is.get(&row.test).cloned().flatten() {
            Verdict::Error(wrong)
        } else {
            let whole = copy.switch_off(row)?;
            let verdict = judge(&testees, row, &logs.join(format!("{}.off.txt", row.name))).await;
            copy.switch_on(row, &whole)?;
            verdict?
        };
        let took = began.elapsed();
        let (word, said) = words(&verdict);
        say(&format!(
            "off  {}/{} {}: {word} ({} s) {said}",
            number + 1,
            rows.len(),
            row.name,
            took.as_secs()
        ));
        lines.push(Line { defence: row, verdict, took });
    }
    Ok(lines)
}

/// Sees that each test passes as the code is; what is wrong with those that do not.
async fn as_it_is<'a>(
    testees: &Testees,
    rows: &[&'a Defence],
    logs: &Path,
    say: &mut (dyn FnMut(&str) + Send),
) -> io::Result<BTreeMap<&'a Test, Option<String>>> {
    let mut programs = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for row in rows {
        if seen.contains_key(&row.test) {
            continue;
        }
        let began = Instant::now();
        let target = row.test.target();
        if !programs.contains_key(&target) {
            programs.insert(target.clone(), testees.build(&row.test).await?);
        }
        let log = logs.join(format!("{}.on.txt", row.name));
        let wrong = match &programs[&target] {
            Err(said) => Some(format!("it does not build as it is: {}", first_error(said))),
            Ok(program) => {
                match testees.run(program, &row.test, Duration::from_secs(row.limit_s), &log).await? {
                    End::Passed => None,
                    other => Some(format!("the test does not pass as it is: {}", told(&other))),
                }
            }
        };
        let word = wrong.as_deref().unwrap_or("passes");
        say(&format!("on   {} {word} ({} s)", row.test, began.elapsed().as_secs()));
        seen.insert(&row.test, wrong);
    }
    Ok(seen)
}

async fn judge(testees: &Testees, row: &Defence, log: &Path) -> io::Result<Verdict> {
    let program = match testees.build(&row.test).await? {
        Ok(program) => program,
        Err(said) => {
            fs::write(log, &said)?;
            return Ok(Verdict::Error(format!("it does not build with this off: {}", first_error(&said))));
        }
    };
    Ok(match testees.run(&program, &row.test, Duration::from_secs(row.limit_s), log).await? {
        End::Passed => Verdict::NotCaught,
        End::Missing => Verdict::Error("the program has no such test".to_owned()),
        other => Verdict::Caught(told(&other)),
    })
}

fn told(end: &End) -> String {
    match end {
        End::Passed => "it passed".to_owned(),
        End::Failed(said) => said.clone(),
        End::TimedOut => "it was not over in time".to_owned(),
        End::Died(how) => format!("its process ended: {how}"),
        End::Missing => "there is no such test".to_owned(),
    }
}

fn first_error(said: &str) -> String {
    let line = said.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
    line.chars().take(120).collect()
}

/// The word for a verdict, and what is to be said beside it.
pub fn words(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Caught(said) => ("caught", said),
        Verdict::NotCaught => ("NOT CAUGHT", "the test passes without it"),
        Verdict::Error(why) => ("ERROR", why),
    }
}

/// The table at the end of a run.
pub fn table(lines: &[Line]) -> String {
    let name = lines.iter().map(|line| line.defence.name.len()).max().unwrap_or(0);
    let file = lines.iter().map(|line| line.defence.file.len()).max().unwrap_or(0);
    let test = lines.iter().map(|line| line.defence.test.name.len()).max().unwrap_or(0);
    let mut table =
        format!("{:name$}  {:file$}  {:test$}  {:10}  seconds\n", "name", "defence", "test", "verdict");
    for line in lines {
        let row = line.defence;
        let (word, _) = words(&line.verdict);
        let seconds = line.took.as_secs();
        let _ = writeln!(
            table,
            "{:name$}  {:file$}  {:test$}  {word:10}  {seconds:7}",
            row.name, row.file, row.test.name
        );
    }
    table
}
