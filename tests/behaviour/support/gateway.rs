//! The real gateway, configured by a file and seen from outside.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use moden_gateway::app::{App, DrainReport};
use moden_gateway::config::{self, ListenAddress, LoadOptions};
use moden_gateway::domain::Environment;
use moden_gateway::systemd::PassedSockets;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::capture;
use super::client::{self, Client};
use super::{APP_ID, Message, SECRET, ScriptedUpstream, TestSimulator, eventually};

/// A running gateway. It must end in order: [`TestGateway::stop`] and drop demand a clean drain.
#[derive(Debug)]
pub(crate) struct TestGateway {
    address: SocketAddr,
    admin_address: SocketAddr,
    /// What `Debug` shows of its configuration and of the app.
    debug: String,
    /// Configuration, secrets and access log.
    folder: TempDir,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<DrainReport>>,
}

/// How a gateway is to be configured; every piece goes through a TOML file.
#[derive(Debug)]
pub(crate) struct GatewayBuilder {
    environment: Environment,
    base_url: String,
    app_id: &'static str,
    secret: Option<&'static str>,
    threads: usize,
    server: String,
    listener: String,
    admin_address: &'static str,
    admin: String,
    upstream: String,
    tables: String,
    files: Vec<(&'static str, String)>,
}

impl TestGateway {
    /// Begins with a sandbox gateway that has nowhere to send to.
    pub(crate) fn builder() -> GatewayBuilder {
        GatewayBuilder {
            environment: Environment::Sandbox,
            base_url: String::new(),
            app_id: APP_ID,
            secret: Some(SECRET),
            threads: 2,
            server: String::new(),
            listener: String::new(),
            admin_address: "127.0.0.1:0",
            admin: String::new(),
            upstream: String::new(),
            tables: String::new(),
            files: Vec::new(),
        }
    }

    /// A sandbox gateway in front of a simulator.
    pub(crate) fn before(simulator: &TestSimulator) -> Self {
        Self::builder().simulator(simulator).start()
    }

    /// Where clients are served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `Debug` shows of the configuration and of the app.
    pub(crate) fn debug(&self) -> &str {
        &self.debug
    }

    /// The folder of its configuration and secrets.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Opens a connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one request on a connection of its own and reads its answer.
    pub(crate) fn exchange(&self, request: impl AsRef<[u8]>) -> Message {
        client::exchange(self.address, request)
    }

    /// Where operators are served, as this machine reaches it.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Asks the admin listener.
    pub(crate) fn admin(&self, path: &str) -> Message {
        self.admin_exchange(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Sends one request to the admin listener and reads its answer.
    pub(crate) fn admin_exchange(&self, request: impl AsRef<[u8]>) -> Message {
        client::exchange(self.admin_address, request)
    }

    /// The access log as it stands, whole lines only.
    pub(crate) fn log_text(&self) -> String {
        let text = fs::read_to_string(log_path(&self.folder)).expect("the log is there");
        let end = text.rfind('\n').map_or(0, |end| end + 1);
        text.get(..end).unwrap_or_default().to_owned()
    }

    /// The lines of the access log as they stand.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        parse_lines(&self.log_text())
    }

    /// Waits until the access log has at least this many lines.
    pub(crate) fn await_log_lines(&self, count: usize) -> Vec<Value> {
        eventually("lines of the access log", || {
            let text = self.log_text();
            (text.lines().count() >= count).then(|| parse_lines(&text))
        })
    }

    /// Begins the drain and does not wait for it.
    pub(crate) fn begin_drain(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            // A gateway that is gone already is found out when it is joined.
            let _ = shutdown.send(());
        }
    }

    /// Drains, demands that nothing was cut off, and returns the whole access log.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        let report = self.drain().expect("it runs");
        assert!(report.is_clean(), "the drain cut something off: {report:?}");
        self.log_lines()
    }

    /// Drains and says how that went.
    pub(crate) fn stop_anyhow(mut self) -> (DrainReport, Vec<Value>) {
        let report = self.drain().expect("it runs");
        (report, self.log_lines())
    }

    fn drain(&mut self) -> Option<DrainReport> {
        self.begin_drain();
        let thread = self.thread.take()?;
        Some(thread.join().expect("the gateway does not panic"))
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if thread::panicking() {
            // The test has failed already; the gateway ends on its own.
            self.begin_drain();
        } else if let Some(report) = self.drain() {
            assert!(report.is_clean(), "the drain cut something off: {report:?}");
        }
    }
}

impl GatewayBuilder {
    /// Sends to this environment of the simulator; its certificate, if any, is trusted.
    pub(crate) fn simulator(mut self, simulator: &TestSimulator) -> Self {
        self.base_url = simulator.base_url(self.environment);
        self
    }

    /// Sends to a scripted upstream.
    pub(crate) fn scripted(self, upstream: &ScriptedUpstream) -> Self {
        let base_url = upstream.base_url();
        self.base_url(base_url)
    }

    /// Sends to this URL.
    pub(crate) fn base_url(mut self, base_url: impl Into<String>) -> Self {
        self.base_url = base_url.into();
        self
    }

    /// Serves production, armed; to be named before [`Self::simulator`].
    pub(crate) fn production(mut self) -> Self {
        self.environment = Environment::Production;
        self
    }

    /// Holds this credential.
    pub(crate) fn credential(mut self, app_id: &'static str, secret: &'static str) -> Self {
        self.app_id = app_id;
        self.secret = Some(secret);
        self
    }

    /// Starts with a secret file that is not there.
    pub(crate) fn without_secret(mut self) -> Self {
        self.secret = None;
        self
    }

    /// Runs on this many cores; two unless told otherwise.
    pub(crate) fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Adds lines to `[server]`.
    pub(crate) fn server(mut self, lines: &str) -> Self {
        let _ = writeln!(self.server, "{lines}");
        self
    }

    /// Adds lines to the listener.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        let _ = writeln!(self.listener, "{lines}");
        self
    }

    /// Serves operators on an address that other machines reach, too.
    pub(crate) fn admin_off_loopback(mut self) -> Self {
        self.admin_address = "0.0.0.0:0";
        self
    }

    /// Adds lines to `[admin]`.
    pub(crate) fn admin(mut self, lines: &str) -> Self {
        let _ = writeln!(self.admin, "{lines}");
        self
    }

    /// Adds lines to `[upstream]`.
    pub(crate) fn upstream(mut self, lines: &str) -> Self {
        let _ = writeln!(self.upstream, "{lines}");
        self
    }

    /// Goes on sending however much fails.
    pub(crate) fn without_breaker(self) -> Self {
        self.upstream("breaker = \"off\"")
    }

    /// Adds whole tables.
    pub(crate) fn tables(mut self, tables: &str) -> Self {
        let _ = writeln!(self.tables, "{tables}");
        self
    }

    /// Trusts these certificate authorities.
    pub(crate) fn ca_file(mut self, pem: &str) -> Self {
        self.files.push(("ca.pem", pem.to_owned()));
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> TestGateway {
        self.start_until("ready")
    }

    /// Starts it and waits until its readiness is this word.
    pub(crate) fn start_until(self, readiness: &str) -> TestGateway {
        capture::begin();
        let folder = TempDir::with_prefix("moden-gateway-test-").expect("a temporary folder");
        let options = LoadOptions {
            paths: vec![self.write_files(&folder)],
            ..LoadOptions::default()
        };
        let config = match config::load(&options) {
            Ok(loaded) => loaded.config,
            Err(faults) => panic!("the test's configuration is wrong: {faults}"),
        };
        let mut debug = format!("{config:?}");

        let (bound, is_bound) = mpsc::channel();
        let (shutdown, is_shut_down) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let app = App::bind(config, PassedSockets::none()).await;
                let app = app.expect("the gateway binds");
                let addresses = (app.addresses(), app.admin_address(), format!("{app:?}"));
                bound.send(addresses).expect("the test waits");
                let mut is_shut_down = Some(is_shut_down);
                app.run_until(async || match is_shut_down.take() {
                    // A test that is gone wants the end, too.
                    Some(is_shut_down) => drop(is_shut_down.await),
                    None => std::future::pending().await,
                })
                .await
            })
        });
        let (addresses, admin_address, app_debug) = is_bound.recv().expect("the gateway binds");
        debug.push_str(&app_debug);
        let Some(ListenAddress::Tcp(address)) = addresses.first() else {
            panic!("the first listener is a TCP one");
        };
        let gateway = TestGateway {
            address: *address,
            // Bound to all addresses or to this one, it is reached here.
            admin_address: (
                Ipv4Addr::LOCALHOST,
                admin_address.expect("it is bound").port(),
            )
                .into(),
            debug,
            folder,
            shutdown: Some(shutdown),
            thread: Some(thread),
        };
        let expected = format!("{readiness}\n");
        eventually(readiness, || {
            (gateway.admin("/readyz").body == expected.as_bytes()).then_some(())
        });
        gateway
    }

    /// Writes what an operator would write; the path of the configuration.
    fn write_files(&self, folder: &TempDir) -> PathBuf {
        let environment = self.environment;
        let armed = match environment {
            Environment::Production => "armed = true",
            Environment::Sandbox => "",
        };
        let path = |name: &str| folder.path().join(name);
        let mut upstream = self.upstream.clone();
        for (name, content) in &self.files {
            write_private(&path(name), content);
            let _ = writeln!(upstream, "ca_file = {:?}", path(name));
        }
        let toml = format!(
            "environment = \"{environment}\"\n\
             [server]\n\
             threads = {threads}\n\
             {server}\
             [[listeners]]\n\
             address = \"127.0.0.1:0\"\n\
             {listener}\
             [admin]\n\
             address = \"{admin_address}\"\n\
             {admin}\
             [environments.{environment}]\n\
             base_url = \"{base_url}\"\n\
             app_id = {{ file = {app_id:?} }}\n\
             secret = {{ file = {secret:?} }}\n\
             {armed}\n\
             [upstream]\n\
             {upstream}\
             [access_log]\n\
             output = {log:?}\n\
             {tables}",
            threads = self.threads,
            server = self.server,
            listener = self.listener,
            admin_address = self.admin_address,
            admin = self.admin,
            base_url = self.base_url,
            app_id = path("app-id"),
            secret = path("secret"),
            log = log_path(folder),
            tables = self.tables,
        );
        write_private(&path("app-id"), self.app_id);
        if let Some(secret) = self.secret {
            write_private(&path("secret"), secret);
        }
        write_private(&path("gateway.toml"), &toml);
        path("gateway.toml")
    }
}

fn log_path(folder: &TempDir) -> PathBuf {
    folder.path().join("access.log")
}

fn parse_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Writes a file that only this account may read; it appears whole or not at all.
pub(crate) fn write_private(path: &Path, content: &str) {
    use std::io::Write;
    let unfinished = path.with_extension("unfinished");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .expect("the folder can be written");
    file.write_all(content.as_bytes()).expect("there is room");
    fs::rename(&unfinished, path).expect("the same folder");
}
