//! `[backend]`: options of the role, and the VIPs that a web server of this machine serves.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::outline::Outline;
use super::proxy::MOST_FLOWS;
use super::reader::Section;
use super::values::{integer, one_of, seconds, socket_address, text};
use super::vip::Vip;

/// Options of the back-end role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendOptions {
    /// Flows that the agent's kernel table holds; more are refused and counted.
    pub max_flows: u32,
    /// While all is well, the path to the web server is tested so often.
    pub path_test_interval: Duration,
    /// Receive buffer that web servers' listeners have at least (bytes); 0: they stay as they are.
    pub receive_buffer: usize,
    /// Where answers are logged, if anywhere.
    pub access_log: Option<AccessLogOptions>,
    /// What this machine serves.
    pub services: Vec<Service>,
}

impl Default for BackendOptions {
    fn default() -> Self {
        Self {
            max_flows: 1 << 20,
            path_test_interval: Duration::from_secs(30),
            receive_buffer: 4 << 20,
            access_log: None,
            services: Vec::new(),
        }
    }
}

/// The agent's access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogOptions {
    /// The file that lines are appended to.
    pub path: PathBuf,
    /// What lines are like.
    pub format: AccessLogFormat,
}

/// What lines of an access log are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Apache httpd's and nginx's Combined Log Format.
    Combined,
    /// An object a line.
    Json,
}

/// A VIP and the listener that serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// Place of the VIP in [`Config::vips`](super::Config::vips).
    pub vip: usize,
    /// Where the web server listens.
    pub listen: SocketAddr,
}

impl Service {
    /// Whether flows to `address` can be given to this listener: same family, or the wildcard of both.
    pub fn takes(&self, address: SocketAddr) -> bool {
        self.listen.is_ipv4() == address.is_ipv4() || self.listen.ip() == IpAddr::from([0u16; 8])
    }
}

/// `vips` has an entry for each `[[vip]]`, `None` where that one is wrong.
pub(super) fn read(
    mut section: Section<'_>,
    outline: &Outline<'_>,
    vips: &[Option<Vip>],
    folder: &Path,
) -> BackendOptions {
    let default = BackendOptions::default();
    let max_flows = section.or("max_flows", default.max_flows, integer(1..=MOST_FLOWS));
    let interval = default.path_test_interval;
    let path_test_interval = section.or("path_test_interval_s", interval, seconds);
    let buffer = default.receive_buffer;
    let receive_buffer = section.or("receive_buffer_bytes", buffer, integer(0..=1 << 30));
    let path = section.optional("access_log", |item| {
        text(item).map(|path| folder.join(path))
    });
    let formats = [
        ("combined", AccessLogFormat::Combined),
        ("json", AccessLogFormat::Json),
    ];
    let format = section.or(
        "access_log_format",
        AccessLogFormat::Combined,
        one_of(&formats),
    );
    let mut services: Vec<Service> = Vec::new();
    for service in section.tables("service", "[[backend.service]]") {
        services.extend(read_service(service, outline, vips, &services));
    }
    for (place, vip) in vips.iter().enumerate() {
        let mine: Vec<_> = services
            .iter()
            .filter(|service| service.vip == place)
            .collect();
        let Some(vip) = vip.as_ref().filter(|_| !mine.is_empty()) else {
            continue;
        };
        let served = |address: &&SocketAddr| mine.iter().any(|service| service.takes(**address));
        if let Some(address) = vip.addresses.iter().find(|address| !served(address)) {
            let (vip, wildcard) = (
                &vip.name,
                if address.is_ipv4() { "0.0.0.0" } else { "[::]" },
            );
            section.problem(
                format!("no [[backend.service]] of VIP \"{vip}\" takes its address {address}"),
                format!("add one with vip = \"{vip}\" and a listener of that address family, for example listen = \"{wildcard}:8080\""),
            );
        }
    }
    BackendOptions {
        max_flows,
        path_test_interval,
        receive_buffer,
        access_log: path.map(|path| AccessLogOptions { path, format }),
        services,
    }
}

fn read_service(
    mut section: Section<'_>,
    outline: &Outline<'_>,
    vips: &[Option<Vip>],
    earlier: &[Service],
) -> Option<Service> {
    let vip = section.required("vip", "\"web\"", |item| outline.vips.resolve(item));
    let listen = section.required("listen", "\"127.0.0.1:8080\"", socket_address);
    let service = Service {
        vip: vip?,
        listen: listen?,
    };
    let vip = vips[service.vip].as_ref()?;
    let taken = |address: &&SocketAddr| service.takes(**address);
    let shared = |address: &&SocketAddr| {
        let mut others = earlier.iter().filter(|other| other.vip == service.vip);
        others.any(|other| other.takes(**address))
    };
    if !vip.addresses.iter().any(|address| taken(&address)) {
        section.problem(
            format!(
                "{} listens on {}, but VIP \"{}\" has no address of that family",
                section.place(),
                listen?,
                vip.name
            ),
            "listen on an address of the VIP's family",
        );
    } else if let Some(address) = vip.addresses.iter().filter(taken).find(shared) {
        section.problem(
            format!("a second listener for {address} of VIP \"{}\"", vip.name),
            "for each address family of a VIP one service: remove one of them",
        );
    }
    Some(service)
}
