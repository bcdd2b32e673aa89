//! The receive buffer of another program's socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// Of `SO_BUF_LOCK`: its program has chosen the size itself, and the kernel leaves it (include/net/sock.h).
const RCVBUF_LOCK: libc::c_int = 2;

/// A descriptor of a socket that a process has, for this process too (pidfd_getfd(2)). The socket lives as long as either.
///
/// # Errors
/// Without CAP_SYS_PTRACE, or when there is no such process or descriptor.
pub fn descriptor_of(pid: i32, descriptor: i32) -> io::Result<OwnedFd> {
    // SAFETY: numbers only; what comes back is a fresh descriptor or an error.
    let process = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }?;
    // SAFETY: as above.
    unsafe {
        owned(libc::syscall(
            libc::SYS_pidfd_getfd,
            process.as_raw_fd(),
            descriptor,
            0,
        ))
    }
}

/// SAFETY: `result` is that of a system call that makes a descriptor.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: a fresh descriptor that nobody else has.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Its size in bytes as the kernel counts, about half of which is window; none if the socket's program chose it.
///
/// # Errors
/// When it is no socket.
pub fn receive_buffer(socket: BorrowedFd<'_>) -> io::Result<Option<usize>> {
    let mut lock: libc::c_int = 0;
    let mut length = size_of_val(&lock) as libc::socklen_t;
    // SAFETY: the descriptor is open, the pointers are to values of the stated length.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BUF_LOCK,
            (&raw mut lock).cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    if lock & RCVBUF_LOCK != 0 {
        return Ok(None);
    }
    Ok(Some(getsockopt(&socket.as_fd(), sockopt::RcvBuf)?))
}

/// Connections accepted from now on begin with this size and grow from there, as they would have from the other.
///
/// # Errors
/// Without CAP_NET_ADMIN.
pub fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    // The kernel doubles it (socket(7)), and takes it for the program's own choice, which it is not.
    setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &(bytes / 2))?;
    let lock: libc::c_int = 0;
    // SAFETY: the descriptor is open, the pointer is to a value of the stated length.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BUF_LOCK,
            (&raw const lock).cast(),
            size_of_val(&lock) as libc::socklen_t,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_of_a_process_gets_a_larger_buffer_that_is_nobodys_choice() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pid = std::process::id().cast_signed();
        let Ok(same) = descriptor_of(pid, listener.as_raw_fd()) else {
            return; // neither root nor allowed to look at itself
        };
        if set_receive_buffer(same.as_fd(), 1 << 21).is_ok() {
            assert_eq!(receive_buffer(listener.as_fd()).unwrap(), Some(1 << 21));
        }
        setsockopt(&listener, sockopt::RcvBuf, &50_000).unwrap();
        assert_eq!(receive_buffer(same.as_fd()).unwrap(), None, "chosen");
    }
}
