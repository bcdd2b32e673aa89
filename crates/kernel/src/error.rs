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
    /// Nothing can be kept beyond the process' end.
    #[error(
        "there is no BPF file system on /sys/fs/bpf, and it cannot be mounted: {source}; as root: mount -t bpf bpf /sys/fs/bpf"
    )]
    NoFileSystem {
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Something could not be kept, or what was kept not be had.
    #[error("{}: {source}", path.display())]
    Pin {
        /// Its name in the BPF file system.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A process of another version has left tables that this one cannot read.
    #[error(
        "the flows that are in the kernel ({}) are of another version of baton, which this one cannot go on with: start that one again, or give them up: baton detach {node}",
        place.display()
    )]
    OtherLayout {
        /// Its name.
        node: String,
        /// Where they are.
        place: std::path::PathBuf,
    },
    /// Somebody has this node's place.
    #[error("a baton runs here as node {node} already: stop it first")]
    Running {
        /// Its name.
        node: String,
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
