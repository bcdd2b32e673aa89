//! Other web servers on the back ends, beside the lab's own nginx: each on a port of its own, on all back ends, with the same files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::POOLS;
use super::lab::Lab;
use super::nginx;
use super::process;
use super::requirements::{PYTHON, require};
use crate::topology::Host;

/// What listens, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Apache,
    /// `python3 -m http.server`: HTTP/1.0, the connection ends with each answer.
    PythonHttpServer,
    /// One at a time and slowly, behind a queue of five.
    PythonInTurn,
    /// nginx whose workers have a listener each. `X-Worker` tells which one answered; connections end with each answer.
    NginxReuseport,
    /// nginx that the network cannot reach.
    NginxOnLoopback,
}

impl Program {
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Apache => 8101,
            Self::PythonHttpServer => 8102,
            Self::PythonInTurn => 8103,
            Self::NginxReuseport => 8104,
            Self::NginxOnLoopback => 8105,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Apache => "apache",
            Self::PythonHttpServer => "http-server",
            Self::PythonInTurn => "in-turn",
            Self::NginxReuseport => "reuseport",
            Self::NginxOnLoopback => "on-loopback",
        }
    }
}

/// Answers one request after the other, 20 ms each.
const IN_TURN: &str = include_str!("in_turn.py");

impl Lab {
    /// Starts a program on every back end and waits until all serve: `1KB`, `1MB`, `unique`, `whoami`, below each pool's prefix too.
    ///
    /// # Errors
    /// When it is not installed, or does not begin to serve.
    pub(crate) fn start_everywhere(&mut self, program: Program) -> anyhow::Result<()> {
        let log = format!("{}.log", program.name());
        for host in self.topology.backends() {
            let site = self.site(&host)?;
            let mut command = self.program(program, &host, &site)?;
            self.start(&host.name, &log, command.current_dir(&site))?;
        }
        for host in self.topology.backends() {
            let url = format!("http://127.0.0.1:{}/whoami", program.port());
            self.serves(&host.name, &url, &host.name, &log)?;
        }
        Ok(())
    }

    /// Ends what [`Lab::start_everywhere`] started, also if only a part of it runs.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub(crate) fn stop_everywhere(&mut self, program: Program) -> anyhow::Result<()> {
        for host in self.topology.backends() {
            let what = format!("{} on {}", program.name(), host.name);
            if let Some(process) = self.state.process(&what) {
                process::stop(std::slice::from_ref(process));
                self.state.forget(&what)?;
            }
        }
        Ok(())
    }

    fn program(&self, program: Program, host: &Host, site: &Path) -> anyhow::Result<Command> {
        let (dir, netns, port) = (self.dir(&host.name), self.netns(&host.name), program.port());
        let configuration = dir.join(format!("{}.conf", program.name()));
        let mut command;
        match program {
            Program::Apache => {
                require("apache2", "apache2-bin")?;
                fs::write(&configuration, apache(host, &dir, site, port))?;
                command = netns.command("unshare");
                // It does not serve as root, and nobody else may read a lab's files: to itself it is somebody else.
                command.args(["--user", "--map-user=1000", "--map-group=1000"]);
                command
                    .args(["apache2", "-DFOREGROUND", "-f"])
                    .arg(&configuration);
            }
            Program::PythonHttpServer => {
                require(PYTHON, "python3")?;
                command = netns.command(PYTHON);
                command.args(["-m", "http.server", &port.to_string(), "--bind", "::"]);
            }
            Program::PythonInTurn => {
                require(PYTHON, "python3")?;
                command = netns.command(PYTHON);
                command.args(["-c", IN_TURN, &port.to_string(), &host.name]);
            }
            Program::NginxReuseport | Program::NginxOnLoopback => {
                let workers = program == Program::NginxReuseport;
                let text = nginx::other(host, &dir, site, program.name(), port, workers);
                fs::write(&configuration, text)?;
                command = super::nginx_command(&netns, &dir, &configuration);
            }
        }
        Ok(command)
    }

    /// A directory of files for servers that cannot be told where they are.
    fn site(&mut self, host: &Host) -> anyhow::Result<PathBuf> {
        let dir = self.dir(&host.name);
        let site = dir.join("site");
        if site.exists() {
            return Ok(site);
        }
        fs::create_dir(&site)?;
        for name in ["1KB", "1MB"] {
            symlink(self.content.file(name)?.path, site.join(name))?;
        }
        symlink(dir.join("unique"), site.join("unique"))?;
        fs::write(site.join("whoami"), format!("{}\n", host.name))?;
        for pool in POOLS {
            symlink(".", site.join(pool))?;
        }
        Ok(site)
    }
}

fn apache(host: &Host, dir: &Path, site: &Path, port: u16) -> String {
    let (name, dir, site) = (&host.name, dir.display(), site.display());
    // Debian has log_config and unixd built in.
    let modules = ["mpm_event", "authz_core", "headers"];
    let load: String = modules
        .iter()
        .map(|module| {
            format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n")
        })
        .collect();
    format!(
        r#"{load}ServerRoot {dir}
ServerName {name}
DefaultRuntimeDir {dir}
Mutex file:{dir} default
PidFile {dir}/apache.pid
ErrorLog {dir}/apache-error.log
LogFormat "%h \"%r\" %>s %B" lab
CustomLog {dir}/apache-access.log lab
Listen {port}
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot {site}
<Directory {site}>
    Options FollowSymLinks
    Require all granted
</Directory>
Header always set X-Backend {name}
"#
    )
}
