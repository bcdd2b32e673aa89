//! Programs on interfaces: tcx links, which go when the process goes, unless they are pinned.

use crate::{Error, Pins, Result};
use libbpf_rs::libbpf_sys;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// On which side of an interface a program looks at packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ingress,
    Egress,
}

/// Attaches a program behind those that are there, or in the place of the one that is pinned. Without pins, dropping the descriptor detaches
/// it.
pub(crate) fn attach(
    program: &impl AsFd,
    ifindex: u32,
    side: Side,
    pins: Option<&mut Pins>,
) -> Result<OwnedFd> {
    match pins {
        Some(pins) => pins.attach(program, ifindex, side),
        None => create_link(program, ifindex, side),
    }
}

/// A link behind those that are there.
pub(crate) fn create_link(program: &impl AsFd, ifindex: u32, side: Side) -> Result<OwnedFd> {
    let kind = match side {
        Side::Ingress => libbpf_sys::BPF_TCX_INGRESS,
        Side::Egress => libbpf_sys::BPF_TCX_EGRESS,
    };
    // SAFETY: the descriptor is open for the length of the call; null options mean the defaults.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_fd().as_raw_fd(),
            ifindex as i32,
            kind,
            std::ptr::null(),
        )
    };
    if fd < 0 {
        return Err(Error::Attach {
            ifindex,
            source: std::io::Error::from_raw_os_error(-fd),
        });
    }
    // SAFETY: a fresh descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of an interface in this network namespace.
pub fn interface_index(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(|_| Error::NoInterface { name: name.into() })
}

/// Runs a program on one frame: `(verdict, frame after)`.
pub(crate) fn test_run(
    program: &libbpf_rs::ProgramMut<'_>,
    frame: &[u8],
) -> libbpf_rs::Result<(i32, Vec<u8>)> {
    let mut out = vec![0; frame.len() + 256];
    let output = program.test_run(libbpf_rs::ProgramInput {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..Default::default()
    })?;
    let length = output.data.map_or(0, |data| data.len());
    let verdict = output.return_value as i32;
    out.truncate(length);
    Ok((verdict, out))
}
