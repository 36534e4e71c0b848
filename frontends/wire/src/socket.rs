//! The socket file: a listening Unix socket with its path, its mode and its owner settled.
//!
//! Three things make a socket file safe, and none of them is left to luck. *Its mode*: right from the first
//! instant, without the umask, which is the whole process's. *Its owner*: whoever holds the lock file beside it
//! ([`LockFile`]), so that of two gateways that start at once one wins, and what a crash left can be told
//! from what lives. *Its end*: removed with the value, and only if it is still the file this value made. What is
//! not known to be stale is never removed.

mod lock;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use contract::{Address, BindError};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use lock::LockFile;

/// Connections the kernel may hold for a door that has not accepted them yet; it takes less where its own
/// limit (`net.core.somaxconn`) is lower.
const BACKLOG: i32 = 1024;

/// A Unix socket that listens, and its file. Dropping it closes the socket, and removes the file and its lock.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
    inode: Inode,
    /// Held until the socket file is gone.
    _lock: LockFile,
}

impl SocketFile {
    /// Takes `path` (not abstract, short enough for the system, in a directory that exists) and listens there.
    /// The file has exactly the permissions `mode` (0 to 0o777) and at no time more. What a crashed gateway
    /// left is replaced; anything else in the way is an error that says what it is, or who owns it. Must be
    /// called within a tokio runtime that has I/O enabled.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        bind(path, mode).map_err(|Refusal { reason, source }| BindError {
            address: Address::Unix(path.to_owned()),
            reason,
            source,
        })
    }

    /// Where to accept.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The path as asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // While the listener is open its inode cannot be given to another file, so an equal one is ours.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| Inode::of(&found) == self.inode) {
            // Nobody is left to tell when it fails; the next gateway finds a stale file and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why a path was not taken, before the address is put to it.
#[derive(Debug)]
struct Refusal {
    reason: String,
    source: Option<io::Error>,
}

impl Refusal {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), source: None }
    }

    /// What the system refused to do (`what`, such as "create the lock file") with `file`, in words that say
    /// what to change.
    fn of(what: &str, file: &Path, source: io::Error) -> Self {
        let parent = parent(file).display();
        let reason = match source.kind() {
            ErrorKind::NotFound => format!("the directory {parent} does not exist: create it"),
            ErrorKind::NotADirectory => format!("{parent} is not a directory: choose another path"),
            ErrorKind::PermissionDenied => {
                let uid = rustix::process::geteuid().as_raw();
                format!("permission denied: uid {uid} may not {what} {}", file.display())
            }
            ErrorKind::ReadOnlyFilesystem => {
                format!("{parent} is on a read-only file system: choose another path")
            }
            _ => format!("could not {what} {}", file.display()),
        };
        Self { reason, source: Some(source) }
    }
}

/// What makes a file itself, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

fn bind(path: &Path, mode: u32) -> Result<SocketFile, Refusal> {
    check_path(path)?;
    if mode > 0o777 {
        return Err(Refusal::new(format!("{mode:o} is not a mode: choose 0 to 777, such as 600")));
    }
    let lock = LockFile::acquire(path)?;
    clear_the_way(path, &lock)?;
    let (socket, inode) =
        listen(path, mode).map_err(|error| Refusal::of("create the socket", path, error))?;
    // From here on a failure must not leave the file.
    let listener = socket
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(socket.into()))
        .inspect_err(|_| drop(fs::remove_file(path)))
        .map_err(|error| Refusal::of("listen on", path, error))?;
    Ok(SocketFile { listener, path: path.to_owned(), inode, _lock: lock })
}

/// What can be known of a path without looking at the disk.
fn check_path(path: &Path) -> Result<(), Refusal> {
    let bytes = path.as_os_str().as_bytes();
    match bytes.first() {
        None => return Err(Refusal::new("the path is empty: give the path of a file")),
        // The kernel writes abstract names with a NUL in front, people and tools with an @.
        Some(b'\0' | b'@') => {
            let why = "abstract sockets have no permissions: give the path of a file (./@name for this name)";
            return Err(Refusal::new(why));
        }
        Some(_) if bytes.contains(&b'\0') => return Err(Refusal::new("the path has a NUL in it")),
        Some(_) => {}
    }
    if path.file_name().is_none() || bytes.ends_with(b"/") {
        return Err(Refusal::new("the path names a directory: add a file name"));
    }
    if SocketAddr::from_pathname(path).is_err() {
        let (long, limit) = (bytes.len(), path_bytes_max());
        return Err(Refusal::new(format!(
            "the path has {long} bytes, and this system takes at most {limit} for a socket: choose a shorter one"
        )));
    }
    Ok(())
}

/// The longest path a socket may have: `sun_path` less its NUL, which is 107 on Linux and 103 on BSD and macOS.
/// Found by asking, so that it is right on each; no system has more than 255.
fn path_bytes_max() -> usize {
    (1..=255).rev().find(|bytes| SocketAddr::from_pathname("x".repeat(*bytes)).is_ok()).unwrap_or(0)
}

/// Makes sure that nothing has the path, removing only a socket that nobody listens on. The lock is held, so
/// no other gateway does the same.
fn clear_the_way(path: &Path, lock: &LockFile) -> Result<(), Refusal> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Refusal::of("look at", path, error)),
    };
    let kind = found.file_type();
    if !kind.is_socket() {
        let what = match () {
            () if kind.is_symlink() => "a symbolic link",
            () if kind.is_dir() => "a directory",
            () if kind.is_file() => "a regular file",
            () => "not a socket",
        };
        let why = format!("the path is taken by {what}, which is left alone: move it away or choose another");
        return Err(Refusal::new(why));
    }
    if let Some(owner) = knock(path)? {
        let lock = lock.path().display();
        return Err(Refusal::new(format!(
            "{owner} listens there without holding {lock}: stop it or choose another path"
        )));
    }
    // It may have been replaced since it was looked at by someone who does not know of the lock.
    let now = fs::symlink_metadata(path).map(|now| Inode::of(&now));
    if now.is_ok_and(|now| now == Inode::of(&found)) {
        fs::remove_file(path).map_err(|error| Refusal::of("remove the stale socket", path, error))?;
    }
    Ok(())
}

/// Who listens on the socket at `path`; `None` when nobody does. Never waits.
fn knock(path: &Path) -> Result<Option<String>, Refusal> {
    let refused = |error| Refusal::of("find out who owns", path, error);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused)?;
    socket.set_nonblocking(true).map_err(refused)?;
    let address = SockAddr::unix(path).map_err(refused)?;
    match socket.connect(&address) {
        Ok(()) => {
            // The credentials of a connecting socket's peer are those of whoever called listen.
            let stream = UnixStream::from_std(socket.into()).map_err(refused)?;
            Ok(Some(owner(stream.peer_cred().ok().and_then(|peer| peer.pid()))))
        }
        // Its backlog is full: it lives, and is busy.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Some(owner(None))),
        // A datagram or packet socket: not ours, and there is no telling whether it lives.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
            Ok(Some("a process with a socket of another type".to_owned()))
        }
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

/// A process as an error names it, with its name where the system tells it.
fn owner(pid: Option<i32>) -> String {
    // 0 is what the kernel says of a process that is not visible from this container.
    let Some(pid) = pid.filter(|pid| *pid > 0) else { return "another process".to_owned() };
    let name =
        if cfg!(target_os = "linux") { fs::read_to_string(format!("/proc/{pid}/comm")).ok() } else { None };
    name.map_or_else(|| format!("pid {pid}"), |name| format!("pid {pid} ({})", name.trim_end()))
}

/// The directory a file is in.
fn parent(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A socket that listens at `path`, where nothing is, with exactly this mode.
#[cfg(target_os = "linux")]
fn listen(path: &Path, mode: u32) -> io::Result<(Socket, Inode)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The file gets the socket's own mode less the umask (net/unix/af_unix.c, unix_bind_bsd): set before bind,
    // there is no instant in which it has more.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    settle(path, mode).and_then(|inode| socket.listen(BACKLOG).map(|()| (socket, inode))).inspect_err(|_| {
        drop(fs::remove_file(path));
    })
}

/// Gives the file what the umask took, and says which file it is.
#[cfg(target_os = "linux")]
fn settle(path: &Path, mode: u32) -> io::Result<Inode> {
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsRawFd;

    // Through a handle of the file itself: by its name, a link put in its place would be followed.
    let file = fs::File::from(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    let found = file.metadata()?;
    if !found.file_type().is_socket() {
        return Err(io::Error::other("the socket was replaced by something else"));
    }
    if found.permissions().mode() & 0o7777 != mode {
        let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(handle, fs::Permissions::from_mode(mode))?;
    }
    Ok(Inode::of(&found))
}

#[cfg(not(target_os = "linux"))]
use listen_and_move as listen;

/// The same where a socket has no mode before it is bound: made inside a directory that only its owner may
/// enter, and moved into place when it is as it should be.
#[cfg(any(test, not(target_os = "linux")))]
fn listen_and_move(path: &Path, mode: u32) -> io::Result<(Socket, Inode)> {
    use std::os::unix::fs::DirBuilderExt;

    /// Removes the directory and what is left in it.
    struct Room(PathBuf);
    impl Drop for Room {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    // Short, because what is inside has to fit into `sun_path` too; unique, because two processes that bind
    // different paths may share the directory, and only one thread at a time holds the lock of one path.
    let number = Inode::of(&fs::symlink_metadata(parent(path))?).number ^ u64::from(std::process::id());
    let mut created = Err(io::Error::from(ErrorKind::AlreadyExists));
    for attempt in 0..100_u64 {
        let room = parent(path).join(format!(".{:x}", (number.wrapping_add(attempt)) & 0xff_ffff));
        created = fs::DirBuilder::new().mode(0o700).create(&room).map(|()| Room(room));
        if !created.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
            break;
        }
    }
    let room = created?;
    let inside = room.0.join("s");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(&inside)?)?;
    fs::set_permissions(&inside, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    let inode = Inode::of(&fs::symlink_metadata(&inside)?);
    fs::rename(&inside, path)?;
    Ok((socket, inode))
}

#[cfg(test)]
mod tests;
