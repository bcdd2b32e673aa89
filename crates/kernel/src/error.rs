//! What can go wrong between user space and the kernel.

/// Shorthand for this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on a program, a table or an interface that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel did not take the program.
    #[error(
        "the kernel refused the {role} program: {source}; run as root (or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON) on Linux 6.9 or newer"
    )]
    Load {
        /// `proxy`, `backend` or `balancer`.
        role: &'static str,
        /// What libbpf said.
        source: libbpf_rs::Error,
    },
    /// No interface of that name in this network namespace.
    #[error("there is no interface {name} here; `ip link` lists those that there are")]
    NoInterface {
        /// As configured.
        name: String,
    },
    /// The program could not be attached.
    #[error("could not attach to interface number {ifindex}: {source}")]
    Attach {
        /// The interface.
        ifindex: u32,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A frame of our own could not be received.
    #[error("an interface did not take a frame for a test: {source}")]
    Inject {
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A table did not take an entry, or could not be read.
    #[error("kernel table {table}: {source}")]
    Table {
        /// Its name in `bpf/`.
        table: &'static str,
        /// What libbpf said.
        source: libbpf_rs::Error,
    },
}
