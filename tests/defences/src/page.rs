//! The page `docs/faults.md`: what the gateway survives, and how anyone can see that it does.

use std::fmt::Write as _;

use crate::list::Area;

/// The page's place, from the root.
pub const PLACE: &str = "docs/faults.md";

/// The page's text.
pub fn text(areas: &[Area]) -> String {
    let rows: usize = areas.iter().map(|area| area.defences.len()).sum();
    let mut page = format!(
        "# What the gateway survives\n\n\
         Each row is a fault, what the gateway does about it, and the test that shows it. Behind each is a defence in the\n\
         code, and that the test sees it was proven: the command below switches the defences off, one at a time, and wants\n\
         each test to fail.\n\n\
         ```sh\n\
         tests/defences/run                    # all {rows}, which takes a while\n\
         tests/defences/run --area breaker     # an area: the word behind each heading\n\
         tests/defences/run late-reply         # rows by name, or by a part of it\n\
         tests/defences/run --list\n\
         ```\n\n\
         It works in a copy of the sources below cargo's target directory and never touches the sources. A row is proven\n\
         when the test passes as the code is and fails with the defence off. What a test printed then is in\n\
         `target/defences/logs/`. The rows are in `tests/defences/areas/`, with the text that is switched off; this page is\n\
         written from them: `tests/defences/run --page`.\n"
    );
    for area in areas {
        let _ = write!(page, "\n## {} (`{}`)\n\n", area.title, area.name);
        page.push_str("| fault | what happens | test | row |\n|---|---|---|---|\n");
        for row in &area.defences {
            let program =
                row.test.program.as_deref().map_or_else(String::new, |program| format!("{program} "));
            let test = format!("{program}{}", row.test.name);
            let _ = writeln!(page, "| {} | {} | `{test}` | `{}` |", row.fault, row.answer, row.name);
        }
    }
    page
}
