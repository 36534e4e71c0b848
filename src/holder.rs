//! Who holds a TCP port: so that "the port is taken" comes with a name.
//!
//! Linux tells it in `/proc`: the table of sockets gives the listening socket's inode, and some process has a
//! descriptor that is that socket. Both are best effort: another user's descriptors are not to be seen, and other
//! network namespaces have tables of their own. Other systems offer no such files; there the answer is "not known".
//! It is asked once, after a bind has failed, so a scan of all processes is no cost.

use std::fmt;
use std::net::SocketAddr;

/// The process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The name of its executable as the system keeps it (on Linux at most 15 bytes), where that can be read.
    pub name: Option<String>,
}

impl fmt::Display for Holder {
    /// `process 1234 (name)`, or without the name.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {}", self.pid)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(formatter, " ({name})"))
    }
}

/// Who listens on this address, or on this port of every address. `None` when that cannot be known.
pub fn tcp_holder(address: SocketAddr) -> Option<Holder> {
    let pid = system::listener_pid(address)?;
    Some(Holder { pid, name: process_name(pid) })
}

/// The name of a process, with control characters replaced, as a process may choose its own name and this one
/// goes to a terminal. `None` when there is no such process or the system does not tell.
pub fn process_name(pid: u32) -> Option<String> {
    let name = system::name(pid)?;
    Some(name.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::OsStr;
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    /// `TCP_LISTEN` of the kernel's `tcp_states.h`.
    const LISTEN: &str = "0A";

    pub(super) fn name(pid: u32) -> Option<String> {
        let bytes = fs::read(format!("/proc/{pid}/comm")).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) fn listener_pid(address: SocketAddr) -> Option<u32> {
        let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .find_map(|table| table.lines().skip(1).find_map(|line| listening_inode(line, address)))?;
        let socket = format!("socket:[{inode}]");
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            has_descriptor(pid, OsStr::new(&socket)).then_some(pid)
        })
    }

    fn has_descriptor(pid: u32, socket: &OsStr) -> bool {
        fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|descriptors| {
            descriptors.flatten().any(|descriptor| {
                fs::read_link(descriptor.path()).is_ok_and(|link| link.as_os_str() == socket)
            })
        })
    }

    /// The inode of a line of `/proc/net/tcp` (proc(5)), if its socket listens where `wanted` would.
    pub(super) fn listening_inode(line: &str, wanted: SocketAddr) -> Option<u64> {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        if fields.nth(1)? != LISTEN {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        let address = parse_address(address)?;
        let is_same = address == wanted.ip() || address.is_unspecified() || wanted.ip().is_unspecified();
        if u16::from_str_radix(port, 16).ok()? != wanted.port() || !is_same {
            return None;
        }
        fields.nth(5)?.parse().ok()
    }

    /// The kernel prints each 32-bit word of an address as the machine reads it.
    fn parse_address(text: &str) -> Option<IpAddr> {
        let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
        match text.len() {
            8 => Some(Ipv4Addr::from(word(0)?).into()),
            32 => {
                let mut bytes = [0; 16];
                for (place, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                    place.copy_from_slice(&word(at)?);
                }
                Some(Ipv6Addr::from(bytes).to_canonical())
            }
            _ => None,
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::net::SocketAddr;

    pub(super) fn name(_: u32) -> Option<String> {
        None
    }

    pub(super) fn listener_pid(_: SocketAddr) -> Option<u32> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn this_process_is_found_as_the_holder_of_its_own_ports() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue }; // a machine without IPv6
            let holder = tcp_holder(listener.local_addr().unwrap()).unwrap();
            assert_eq!(holder.pid, std::process::id(), "{address}");
            assert_eq!(holder.name, process_name(std::process::id()));
            assert!(holder.name.is_some_and(|name| !name.is_empty()));
        }
    }

    #[test]
    fn a_listener_on_every_address_holds_each_one() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = tcp_holder(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        assert_eq!(holder.pid, std::process::id());
    }

    #[test]
    fn a_free_port_has_no_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(tcp_holder(address).filter(|holder| holder.pid == std::process::id()), None);
        assert_eq!(process_name(u32::MAX), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_a_listening_socket_on_the_same_address_counts() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        \
                    0 4242 1 0000000000000000 100 0 0 10 0";
        let inode = |line: &str, address: &str| system::listening_inode(line, address.parse().unwrap());
        assert_eq!(inode(line, "127.0.0.1:8080"), Some(4242));
        assert_eq!(inode(line, "0.0.0.0:8080"), Some(4242));
        assert_eq!(inode(line, "127.0.0.1:8081"), None);
        assert_eq!(inode(line, "127.0.0.2:8080"), None);
        assert_eq!(inode(&line.replace(" 0A ", " 01 "), "127.0.0.1:8080"), None);
        let six = line.replace("0100007F:", "00000000000000000000000001000000:");
        assert_eq!(inode(&six, "[::1]:8080"), Some(4242));
        assert_eq!(inode(&six, "[::2]:8080"), None);
        for broken in ["", "0:", "0: 0100007F 0 0A", "0: é100007F:1F90 0 0A 0 0 0 0 0 1"] {
            assert_eq!(inode(broken, "127.0.0.1:8080"), None, "{broken}");
        }
    }

    #[test]
    fn the_text_names_the_process_when_it_has_a_name() {
        assert_eq!(Holder { pid: 7, name: Some("nginx".into()) }.to_string(), "process 7 (nginx)");
        assert_eq!(Holder { pid: 7, name: None }.to_string(), "process 7");
    }
}
