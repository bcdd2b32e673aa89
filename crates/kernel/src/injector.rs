//! Frames of our own: the program that they are given to lets an interface receive them, as if they had come by its cable, or send them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libbpf_rs::libbpf_sys;

use crate::{Error, Result};

/// Words of `struct __sk_buff` (linux/bpf.h) up to `ifindex`, which is the last of them.
const CONTEXT_WORDS: usize = 11;

/// Lets interfaces receive, or send.
pub struct Injector {
    program: OwnedFd,
}

impl Injector {
    pub(crate) fn new(program: &impl AsFd) -> Result<Injector> {
        let program = program
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::Inject { source })?;
        Ok(Injector { program })
    }

    /// Lets an interface of this network namespace receive (or send) `frame`, which begins with its Ethernet header.
    pub fn inject(&self, ifindex: u32, frame: &[u8]) -> Result<()> {
        let mut context = [0u32; CONTEXT_WORDS];
        context[CONTEXT_WORDS - 1] = ifindex;
        let mut run = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            ctx_in: context.as_ptr().cast(),
            ctx_size_in: size_of_val(&context) as u32,
            repeat: 1,
            ..Default::default()
        };
        // SAFETY: the descriptor is open and the buffers are as long as stated for the length of the call; nothing is written back.
        let outcome =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut run) };
        let errno = match (outcome, run.retval.cast_signed()) {
            (0, 0) => return Ok(()),
            (0, refused) => -refused,
            (refused, _) => -refused,
        };
        Err(Error::Inject {
            source: std::io::Error::from_raw_os_error(errno),
        })
    }
}
