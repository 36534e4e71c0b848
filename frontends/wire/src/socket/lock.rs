//! The lock file: who may make, replace and remove the socket file beside it.
//!
//! An advisory lock (`flock`) and not the file's existence, because the kernel drops it with the process
//! however that ends; the file's text only says who holds it. The file is removed at exit while still held, so
//! whoever opened it just before has locked a file without a name: acquiring therefore looks again, and starts
//! over.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Inode, Refusal, owner};

/// How often acquiring starts over before it gives up. Each time needs another gateway to exit just then.
const ATTEMPTS_MAX: usize = 100;
/// A process id and a newline are never more than this; what is longer is somebody's file.
const TEXT_BYTES_MAX: u64 = 16;

/// A lock held until it is dropped, which removes its file too.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock of the socket file at `socket`: `<socket>.lock`, mode 0600, holding this process's id.
    /// Never waits. A file that is not a lock file, or a link, is left as it is.
    pub(super) fn acquire(socket: &Path) -> Result<Self, Refusal> {
        let mut path = OsString::from(socket);
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..ATTEMPTS_MAX {
            if let Some(file) = open_and_lock(&path)? {
                let lock = Self { file, path };
                lock.sign().map_err(|error| Refusal::of("write the lock file", &lock.path, error))?;
                return Ok(lock);
            }
        }
        Err(Refusal::new(format!("the lock file {} keeps changing hands: try again", path.display())))
    }

    /// The lock file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn sign(&self) -> io::Result<()> {
        let mut file = &self.file;
        // Whatever the umask took, or an older file gave too much of.
        rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR)?;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Removed while held; closing the file, which comes next, gives the lock up.
        if is_at(&self.file, &self.path).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The lock file, locked; `None` when it lost its name meanwhile.
fn open_and_lock(path: &Path) -> Result<Option<File>, Refusal> {
    // Nothing is written before the lock is held. NONBLOCK: if the path is a FIFO, opening must not wait.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // Two calls, because in /tmp Linux lets nobody, not even root, open another user's file with CREATE
    // (fs.protected_regular), and what that user's gateway left has to be replaceable.
    let open = |more| rustix::fs::open(path, flags | more, Mode::RUSR | Mode::WUSR);
    let opened = match open(OFlags::empty()) {
        Err(Errno::NOENT) => open(OFlags::CREATE | OFlags::EXCL),
        opened => opened,
    };
    let file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::EXIST) => return Ok(None),
        // A link (as Linux and as FreeBSD say it), a directory, a socket.
        Err(Errno::LOOP | Errno::MLINK | Errno::ISDIR | Errno::NXIO) => return Err(foreign(path)),
        Err(error) => return Err(Refusal::of("create the lock file", path, error.into())),
    };
    let refused = |error: io::Error| Refusal::of("lock", path, error);
    if !file.metadata().map_err(refused)?.is_file() {
        return Err(foreign(path));
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let holder = owner(signature(&file).ok().flatten());
            let path = path.display();
            let why = format!("{holder} listens there and holds {path}: stop it or choose another path");
            return Err(Refusal::new(why));
        }
        Err(error) => return Err(refused(error.into())),
    }
    if !is_at(&file, path).map_err(refused)? {
        return Ok(None);
    }
    // A crash may leave the id of a process that is gone, or nothing; any other text is not ours to replace,
    // and neither is a file that has another name too.
    let found = file.metadata().map_err(refused)?;
    if found.nlink() > 1 || (found.len() > 0 && signature(&file).map_err(refused)?.is_none()) {
        return Err(foreign(path));
    }
    Ok(Some(file))
}

/// The process id a lock file holds, if that is what it holds.
fn signature(mut file: &File) -> io::Result<Option<i32>> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(TEXT_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(str::from_utf8(&text).ok().and_then(|text| text.trim_end().parse().ok()))
}

/// Whether this open file is the one that has the name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Inode::of(&found) == Inode::of(&file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn foreign(path: &Path) -> Refusal {
    let path = path.display();
    Refusal::new(format!(
        "{path} is not a gateway's lock file, and is left alone: move it or choose another path"
    ))
}
