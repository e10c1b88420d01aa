//! A browser, driven by WebDriver (<https://www.w3.org/TR/webdriver2/>) over plain HTTP.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::DEADLINE;

/// Headless Chromium with a profile of its own. Dropping it ends the browser and removes the profile.
pub struct Browser {
    driver: Driver,
    /// Path of the session's commands.
    session: String,
    profile: PathBuf,
}

impl Browser {
    /// Starts the browser. Returns `None` if it or its driver is not installed.
    pub fn start() -> Option<Self> {
        let (browser, driver) = (find("chromium")?, find("chromedriver")?);
        let driver = Driver::start(&driver);
        let profile =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chromium-{}", driver.process.id()));
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--disable-dev-shm-usage".to_owned(), // /dev/shm is small in containers
            "--disable-gpu".to_owned(),
            "--no-first-run".to_owned(),
            "--no-proxy-server".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        if rustix::process::geteuid().is_root() {
            arguments.push("--no-sandbox".to_owned());
        }
        let options = json!({ "binary": browser, "args": arguments });
        let capabilities = json!({ "alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true, // the authorities of tests
            "timeouts": { "script": DEADLINE.as_millis() as u64 },
            "goog:chromeOptions": options,
        }});
        let session = driver.call("POST", "/session", &json!({ "capabilities": capabilities }));
        let id = session.as_ref().ok().and_then(|session| session["sessionId"].as_str());
        let session = format!("/session/{}", id.unwrap_or_else(|| panic!("no session: {session:?}")));
        Some(Browser { driver, session, profile })
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// Runs the body of an async function with `arguments` in the page. Returns its result.
    pub fn run(&self, body: &str, arguments: Value) -> Value {
        let script = format!(
            "const [given, done] = arguments;
             (async (arguments) => {{ {body} }})(given).then(done, (error) => done(String(error)));"
        );
        self.command("execute/async", &json!({ "script": script, "args": [arguments] }))
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        let answer = self.driver.call("POST", &format!("{}/{name}", self.session), body);
        answer.unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.driver.call("DELETE", &self.session, &Value::Null); // ends the browser
        let _ = fs::remove_dir_all(&self.profile);
    }
}

/// The server that starts browsers. Killed when this is dropped.
struct Driver {
    process: Child,
    port: u16,
    /// Kept open: the driver would fail to write to it otherwise.
    _out: BufReader<ChildStdout>,
}

impl Driver {
    fn start(program: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut driver_output = String::new();
        // It prints "ChromeDriver was started successfully on port 12345."
        let port = loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "chromedriver ended: {driver_output}");
            let port = line.trim_end().strip_suffix('.').and_then(|line| line.rsplit_once("on port "));
            if let Some(port) = port.and_then(|(_, port)| port.parse().ok()).filter(|&port| port > 0) {
                break port;
            }
            driver_output.push_str(&line);
        };
        Driver { process, port, _out: out }
    }

    /// Returns the value in the reply, or the driver's error.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.exchange(&format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        ));
        let mut answer: Value = serde_json::from_slice(&answer.map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())?;
        let value = answer["value"].take();
        match value["error"].as_str() {
            None => Ok(value),
            Some(error) => Err(format!("{error}: {}", value["message"].as_str().unwrap_or_default())),
        }
    }

    /// Returns the body of the reply.
    fn exchange(&self, request: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(request.as_bytes())?;
        let (mut stream, mut length) = (BufReader::new(stream), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                if name.eq_ignore_ascii_case("Content-Length") {
                    length = value.trim().parse().unwrap_or(0);
                }
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(body)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The path of a program.
fn find(name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file())
}
