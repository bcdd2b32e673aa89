//! Can this machine do it?

use libbpf_rs::btf::Btf;

/// What is missing, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// No privilege.
    #[error(
        "handoff needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON): run it with sudo, or use relay pools only"
    )]
    Privilege,
    /// No BTF.
    #[error(
        "this kernel offers no type information (/sys/kernel/btf/vmlinux): handoff needs Linux 6.9 or newer with CONFIG_DEBUG_INFO_BTF"
    )]
    TypeInformation,
    /// No `bpf_sk_assign_tcp_reqsk`.
    #[error(
        "this kernel lacks bpf_sk_assign_tcp_reqsk: handoff needs Linux 6.9 or newer with CONFIG_SYN_COOKIES"
    )]
    Adoption,
    /// `net.ipv4.tcp_syncookies` is 0.
    #[error("net.ipv4.tcp_syncookies is 0, and the kernel adopts no connection then: set it to 1")]
    SynCookies,
}

/// Looks for all that handoff needs of the kernel and of this network namespace.
pub fn probe() -> Result<(), Missing> {
    if !nix::unistd::geteuid().is_root() && !has_capabilities() {
        return Err(Missing::Privilege);
    }
    let btf = Btf::from_vmlinux().map_err(|_| Missing::TypeInformation)?;
    btf.type_by_name::<libbpf_rs::btf::types::Func<'_>>("bpf_sk_assign_tcp_reqsk")
        .ok_or(Missing::Adoption)?;
    match std::fs::read_to_string("/proc/sys/net/ipv4/tcp_syncookies") {
        Ok(value) if value.trim() == "0" => Err(Missing::SynCookies),
        _ => Ok(()),
    }
}

/// CAP_NET_ADMIN (12), CAP_PERFMON (38) and CAP_BPF (39) in the effective set.
fn has_capabilities() -> bool {
    let needed = 1u64 << 12 | 1 << 38 | 1 << 39;
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .is_some_and(|effective| effective & needed == needed)
}
