//! What needs a process of its own (a umask, a crash, another user) runs this test binary again: the tests
//! marked `ignore` are those children.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener as Listener, UnixStream as Stream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tempfile::TempDir;

use super::*;

/// Tells a child which directory to work in.
const PLACE: &str = "IPC_SOCKET_TEST_PLACE";

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.sock");
    (directory, path)
}

fn lock_of(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.lock", path.display()))
}

/// Why `path` is refused; fails when it is not.
fn refused(path: &Path) -> String {
    SocketFile::bind(path, 0o600).expect_err("it was taken").to_string()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn contains(text: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| text.contains(part)), "{text:?} lacks some of {parts:?}");
}

fn rest_of(directory: &TempDir) -> usize {
    fs::read_dir(directory.path()).unwrap().count()
}

/// Runs one of the children below, by a shell that does `before` first.
fn child(test: &str, place: &Path, before: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before} exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("socket::tests::{test}"), "--ignored", "--nocapture"])
        .env(PLACE, place);
    command
}

fn passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// The directory given to a child.
fn given() -> PathBuf {
    PathBuf::from(std::env::var_os(PLACE).expect("run by another test, not by hand"))
}

#[tokio::test]
async fn listens_with_its_mode_and_leaves_nothing() {
    let (directory, path) = place();
    let file = SocketFile::bind(&path, 0o600).unwrap();
    assert_eq!((file.path(), mode(&path), mode(&lock_of(&path))), (&*path, 0o600, 0o600));
    assert_eq!(fs::read_to_string(lock_of(&path)).unwrap(), format!("{}\n", std::process::id()));

    let mut client = Stream::connect(&path).unwrap();
    let (served, _) = file.listener().accept().await.unwrap();
    client.write_all(b"hello").unwrap();
    let mut served = served.into_std().unwrap();
    served.set_nonblocking(false).unwrap();
    let mut text = [0; 5];
    served.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");

    drop(file);
    assert_eq!(rest_of(&directory), 0);
    assert!(SocketFile::bind(&path, 0o666).is_ok());
}

#[test]
fn the_umask_changes_nothing() {
    for umask in ["000", "022", "077", "777"] {
        let (directory, _) = place();
        let before = format!("umask {umask};");
        passed(&child("under_a_umask", directory.path(), &before).output().unwrap());
        assert_eq!(rest_of(&directory), 0, "umask {umask}");
    }
}

#[tokio::test]
#[ignore = "a child of the_umask_changes_nothing"]
async fn under_a_umask() {
    let path = given().join("gateway.sock");
    for wanted in [0o600, 0o660, 0o666, 0o777, 0] {
        // Someone looks all the time, and must never see more than was asked for.
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (path, over) = (&path, &over);
            let watcher = scope.spawn(move || {
                let mut seen = 0;
                while !over.load(Ordering::Relaxed) {
                    if let Ok(found) = fs::symlink_metadata(path) {
                        seen |= found.permissions().mode() & 0o7777;
                    }
                }
                seen
            });
            // Checked when the watcher has stopped: a panic before would wait for it for ever.
            let modes: Vec<_> = (0..100)
                .map(|_| SocketFile::bind(path, wanted).map(|_file| (mode(path), mode(&lock_of(path)))))
                .collect();
            over.store(true, Ordering::Relaxed);
            for modes in modes {
                assert_eq!(modes.unwrap(), (wanted, 0o600));
            }
            let seen = watcher.join().unwrap();
            assert_eq!(seen & !wanted, 0, "{seen:o} was seen, {wanted:o} was asked for");
        });
    }
}

#[test]
fn the_way_of_other_systems_gives_the_same() {
    let (directory, path) = place();
    for wanted in [0o600, 0o660, 0o777] {
        let (socket, inode) = listen_and_move(&path, wanted).unwrap();
        assert_eq!(mode(&path), wanted);
        assert_eq!(Inode::of(&fs::symlink_metadata(&path).unwrap()), inode);
        let _client = Stream::connect(&path).unwrap();
        socket.accept().unwrap();
        assert_eq!(rest_of(&directory), 1);
        fs::remove_file(&path).unwrap();
    }
    assert!(listen_and_move(&directory.path().join("no/such"), 0o600).is_err());
}

#[tokio::test]
async fn what_a_crash_left_is_replaced() {
    let (directory, path) = place();
    let output = child("crashes", directory.path(), "").output().unwrap();
    assert!(!output.status.success());
    assert!(path.exists() && lock_of(&path).exists(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = SocketFile::bind(&path, 0o600).unwrap();
    assert_eq!(fs::read_to_string(lock_of(&path)).unwrap(), format!("{}\n", std::process::id()));
    assert!(Stream::connect(&path).is_ok());
    drop(file);
    assert_eq!(rest_of(&directory), 0);
}

#[tokio::test]
#[ignore = "a child of what_a_crash_left_is_replaced"]
async fn crashes() {
    let _file = SocketFile::bind(&given().join("gateway.sock"), 0o600).unwrap();
    std::process::abort();
}

#[tokio::test]
async fn a_gateway_that_runs_is_named() {
    let (_directory, path) = place();
    let file = SocketFile::bind(&path, 0o600).unwrap();
    let pid = format!("pid {}", std::process::id());
    contains(
        &refused(&path),
        &[path.to_str().unwrap(), &pid, "gateway.sock.lock", "stop it or choose another"],
    );
    if cfg!(target_os = "linux") {
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        contains(&refused(&path), &[&format!("{pid} ({})", name.trim_end())]);
    }
    // It still works, and the loser removed nothing.
    assert!(Stream::connect(&path).is_ok() && lock_of(&path).exists());
    drop(file);
}

#[tokio::test]
async fn a_listener_without_our_lock_is_named_and_left_alone() {
    let (directory, path) = place();
    let listener = Listener::bind(&path).unwrap();
    contains(&refused(&path), &[&format!("pid {}", std::process::id()), "without holding"]);
    assert!(Stream::connect(&path).is_ok());
    assert_eq!(rest_of(&directory), 1);
    drop(listener);
    assert!(SocketFile::bind(&path, 0o600).is_ok());
}

#[tokio::test]
async fn a_listener_too_busy_to_accept_is_alive() {
    let (_directory, path) = place();
    let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    busy.listen(0).unwrap();
    let _waiting = Stream::connect(&path).unwrap(); // fills the backlog
    contains(&refused(&path), &["listens there without holding"]);
    assert!(path.exists());
}

#[tokio::test]
async fn what_is_not_a_stream_socket_is_left_alone() {
    let (directory, path) = place();
    let target = directory.path().join("target");

    fs::write(&path, "precious").unwrap();
    contains(&refused(&path), &["a regular file", "left alone"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::rename(&path, &target).unwrap();

    symlink(&target, &path).unwrap();
    contains(&refused(&path), &["a symbolic link"]);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    contains(&refused(&path), &["a directory"]);
    fs::remove_dir(&path).unwrap();

    let _datagrams = UnixDatagram::bind(&path).unwrap();
    contains(&refused(&path), &["a socket of another type"]);
    assert!(path.exists() && !lock_of(&path).exists());
}

#[tokio::test]
async fn a_link_to_a_stale_socket_is_left_alone() {
    let (directory, path) = place();
    let stale = directory.path().join("stale");
    drop(Listener::bind(&stale).unwrap());
    symlink(&stale, &path).unwrap();
    contains(&refused(&path), &["a symbolic link"]);
    assert!(stale.exists());
}

#[tokio::test]
async fn a_file_that_is_not_a_lock_is_left_alone() {
    let (directory, path) = place();
    let lock = lock_of(&path);
    fs::write(&lock, "packages: 12\n").unwrap();
    contains(&refused(&path), &["not a gateway's lock file"]);
    assert_eq!(fs::read_to_string(&lock).unwrap(), "packages: 12\n");
    fs::remove_file(&lock).unwrap();

    let target = directory.path().join("target");
    fs::write(&target, "1\n").unwrap();
    fs::hard_link(&target, &lock).unwrap();
    contains(&refused(&path), &["not a gateway's lock file"]);
    fs::remove_file(&lock).unwrap();
    symlink(&target, &lock).unwrap();
    contains(&refused(&path), &["not a gateway's lock file"]);
    fs::remove_file(&lock).unwrap();

    fs::create_dir(&lock).unwrap();
    contains(&refused(&path), &["not a gateway's lock file"]);
    fs::remove_dir(&lock).unwrap();

    // What a crash can leave is taken over.
    for left in ["", "1\n", "999999999\n"] {
        fs::write(&lock, left).unwrap();
        fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
        let _file = SocketFile::bind(&path, 0o600).unwrap();
        assert_eq!(mode(&lock), 0o600, "{left:?}");
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "1\n");
}

#[tokio::test]
async fn paths_that_cannot_be() {
    let (directory, path) = place();
    contains(&refused(Path::new("")), &["the path is empty"]);
    contains(&refused(Path::new("\0gateway")), &["abstract"]);
    contains(&refused(Path::new("@gateway")), &["abstract", "./@name"]);
    contains(&refused(Path::new("/tmp/a\0b")), &["NUL"]);
    contains(&refused(Path::new("/")), &["a directory"]);
    contains(&refused(&directory.path().join("x/")), &["a directory"]);
    let missing = directory.path().join("no/such/gateway.sock");
    contains(&refused(&missing), &[directory.path().join("no/such").to_str().unwrap(), "does not exist"]);
    fs::write(&path, "").unwrap();
    contains(&refused(&path.join("gateway.sock")), &["is not a directory"]);
    let error = SocketFile::bind(&path, 0o1777).unwrap_err();
    contains(&error.to_string(), &["1777 is not a mode"]);
}

#[tokio::test]
async fn the_longest_path_works_and_one_more_byte_is_an_error() {
    let (directory, _) = place();
    let limit = path_bytes_max();
    if cfg!(target_os = "linux") {
        assert_eq!(limit, 107);
    }
    let name = "x".repeat(limit - directory.path().as_os_str().len() - 1);
    assert!(SocketFile::bind(&directory.path().join(&name), 0o600).is_ok());
    let why = refused(&directory.path().join(name + "x"));
    contains(&why, &[&format!("{} bytes", limit + 1), &format!("at most {limit}")]);
    assert_eq!(rest_of(&directory), 0);
}

#[test]
fn a_directory_of_somebody_else_is_an_error_that_says_so() {
    let (directory, _) = place();
    let room = directory.path().join("room");
    fs::create_dir(&room).unwrap();
    let copy = directory.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&room, fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new(&copy);
    command
        .args(["--exact", "socket::tests::in_a_closed_room", "--ignored", "--nocapture"])
        .env(PLACE, &room);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534); // nobody: to root no directory is closed
    }
    passed(&command.current_dir("/").output().unwrap());
}

#[tokio::test]
#[ignore = "a child of a_directory_of_somebody_else_is_an_error_that_says_so"]
async fn in_a_closed_room() {
    let uid = format!("uid {}", rustix::process::geteuid().as_raw());
    contains(&refused(&given().join("gateway.sock")), &["permission denied", &uid, "gateway.sock.lock"]);
}

#[tokio::test]
async fn a_file_that_is_no_longer_ours_stays() {
    let (_directory, path) = place();
    let file = SocketFile::bind(&path, 0o600).unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(lock_of(&path)).unwrap();
    let other = SocketFile::bind(&path, 0o600).unwrap();
    drop(file);
    assert!(lock_of(&path).exists() && Stream::connect(&path).is_ok());
    drop(other);
    assert!(!path.exists());
}

#[tokio::test]
async fn of_many_who_start_at_once_one_wins() {
    let runtime = tokio::runtime::Handle::current();
    for left in [false, true] {
        let (directory, path) = place();
        if left {
            drop(Listener::bind(&path).unwrap());
        }
        let start = Barrier::new(16);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let binders: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        let _inside = runtime.enter();
                        start.wait();
                        SocketFile::bind(&path, 0o600)
                    })
                })
                .collect();
            binders.into_iter().map(|binder| binder.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 15));
        for error in lost {
            contains(&error.unwrap_err().to_string(), &["holds", "stop it or choose another path"]);
        }
        assert!(Stream::connect(&path).is_ok());
        drop(won);
        assert_eq!(rest_of(&directory), 0);
    }
}

#[tokio::test]
async fn who_starts_while_another_stops_never_shares() {
    let (directory, path) = place();
    let runtime = tokio::runtime::Handle::current();
    let (holders, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let _inside = runtime.enter();
                for _ in 0..200 {
                    match SocketFile::bind(&path, 0o600) {
                        Ok(file) => {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            assert!(Stream::connect(&path).is_ok());
                            turns.fetch_add(1, Ordering::SeqCst);
                            holders.fetch_sub(1, Ordering::SeqCst);
                            drop(file);
                        }
                        Err(error) => contains(&error.to_string(), &["holds"]),
                    }
                }
            });
        }
    });
    assert!(turns.load(Ordering::SeqCst) > 0);
    assert_eq!(rest_of(&directory), 0);
}
