//! Where the report of a long run goes: to standard output, and into a folder where that is wanted.

use std::io;
use std::path::Path;

use super::console::Console;

/// What was asked for.
pub(super) struct Keep<'a> {
    /// Where to keep it as a file.
    pub(super) folder: Option<&'a Path>,
    /// Whether it is shown as JSON.
    pub(super) json: bool,
}

impl Keep<'_> {
    /// Keeps what was found, if that is wanted, under a name and the time, and shows it. Says whether it could
    /// be kept.
    pub(super) fn show(
        &self,
        name: &str,
        found: &serde_json::Value,
        text: &str,
        console: &mut Console<'_>,
    ) -> io::Result<bool> {
        if let Some(folder) = self.folder {
            let seconds = found["machine"]["unix_seconds"].as_u64().unwrap_or(0);
            let path = folder.join(format!("{name}-{seconds}.json"));
            let saved =
                std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, format!("{found:#}\n")));
            if let Err(error) = saved {
                console.complain(&format!("cannot write {}: {error}", path.display()))?;
                return Ok(false);
            }
        }
        if self.json {
            console.object(found, None)?;
        } else {
            console.out.write_all(text.as_bytes())?;
            console.out.flush()?;
        }
        Ok(true)
    }
}
