//! A real browser against `getty serve`, and against an RPC server. Needs Chromium and its driver (Debian:
//! chromium, chromium-driver).

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use getty_tokio::core::websocket::{ServerOptions, WebSocket};
use getty_tokio::rpc::{self, Services};
use serde_json::{Value, json};

use crate::certificates::Certificates;
use crate::support::Server;
use crate::webdriver::Browser;

/// Message sizes in bytes: none, those on both sides of each change in how a length is written, and large
/// ones.
const SIZES: [usize; 11] = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 65_537, 300_000, 1 << 20];

/// Starts the browser. Without one, the test is skipped.
fn start() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        assert!(std::env::var_os("GETTY_REQUIRE_CHROMIUM").is_none(), "no chromium or no chromedriver found");
        // Not by a macro: the output of macros is shown for failed tests only.
        let _ = writeln!(std::io::stderr(), "skipped: no chromium or no chromedriver found");
    }
    browser
}

#[test]
fn chromium_opens_the_page_and_talks() {
    let Some(browser) = start() else { return };
    let mut server =
        Server::start_on("ws://127.0.0.1:0/echo", &["--deflate", "--subprotocol", "one", "--stats"]);
    let page = format!("http://{}/", server.authority());
    browser.open(&page);
    the_page_works(&browser, &server);
    messages_of_all_sizes(&browser, &server.url);
    server.wait_for_stats("sessions 0, opened 2, messages/s 0, MB/s 0.00, errors 0");
    let certificates = Certificates::new("chromium");
    let options = [&certificates.server()[..], &["--deflate", "--subprotocol", "one"]].concat();
    let secure = Server::start_on("wss://127.0.0.1:0/echo", &options);
    browser.open(&format!("https://{}/", secure.authority()));
    the_page_works(&browser, &secure);
    browser.open("about:blank");
    pages_of_other_origins_are_refused(&browser, &server.url);
}

/// Uses the page as a visitor would.
fn the_page_works(browser: &Browser, server: &Server) {
    let seen = browser.run(
        r#"
        const element = (id) => document.getElementById(id);
        const until = async (wanted) => {
            while (!wanted()) await new Promise((resolve) => setTimeout(resolve, 5));
        };
        const lines = () => [...element("log").children].map((line) => line.textContent);
        const state = (start) => until(() => element("state").textContent.startsWith(start));
        await state("open");
        element("text").value = "grün <b>";
        element("send-text").querySelector("button").click();
        await until(() => lines().length === 2);
        element("size").value = 70000;
        element("send-binary").querySelector("button").click();
        await until(() => lines().length === 4);
        const shown = ["url", "extensions", "protocol"].map((id) => element(id).textContent);
        element("close").click();
        await state("closed");
        return { shown, closed: element("state").textContent, lines: lines() };
        "#,
        Value::Null,
    );
    assert_eq!(
        (&seen["shown"][0], &seen["shown"][2]),
        (&server.url.as_str().into(), &"one".into()),
        "{seen}"
    );
    assert!(seen["shown"][1].as_str().unwrap().contains("permessage-deflate"), "{seen}");
    assert_eq!(seen["closed"], "closed: code 1000, clean");
    // The latest line comes first.
    let lines: Vec<&str> =
        seen["lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert_eq!(lines.len(), 5, "{seen}");
    assert_eq!((lines[4], lines[2]), ("→ text, 9 bytes: grün <b>", "→ binary, 70000 bytes"));
    assert!(
        lines[3].starts_with("← text, 9 bytes: grün <b> (round trip ") && lines[3].ends_with(" ms)"),
        "{seen}"
    );
    assert!(lines[1].starts_with("← binary, 70000 bytes (round trip "), "{seen}");
    assert_eq!(lines[0], "closed: code 1000, clean");
}

/// Exchanges text and binary, one message after the other, and closes.
fn messages_of_all_sizes(browser: &Browser, url: &str) {
    let result = browser.run(
        r#"
        const { url, sizes } = arguments;
        const socket = new WebSocket(url);
        socket.binaryType = "arraybuffer";
        const closed = new Promise((resolve) => { socket.onclose = resolve; });
        const opened = new Promise((resolve) => { socket.onopen = resolve; });
        await Promise.race([opened, closed]);
        const echo = (data) => new Promise((resolve, reject) => {
            socket.onmessage = (event) => resolve(event.data);
            closed.then(({ code }) => reject(`closed with ${code}`));
            socket.send(data);
        });
        const echoed = [];
        for (const size of sizes) {
            const text = "é".repeat(size / 2) + "x".repeat(size % 2);
            if (await echo(text) === text) echoed.push(["text", new TextEncoder().encode(text).length]);
            // Half of it can be compressed.
            const binary = Uint8Array.from({ length: size }, (_, index) => index & 64 ? Math.random() * 256 : 7);
            const back = new Uint8Array(await echo(binary));
            if (back.length === size && back.every((byte, index) => byte === binary[index])) {
                echoed.push(["binary", size]);
            }
        }
        socket.close(1000, "done");
        const { wasClean, code } = await closed;
        return { extensions: socket.extensions, echoed, wasClean, code };
        "#,
        json!({ "url": url, "sizes": SIZES }),
    );
    let expected: Vec<Value> =
        SIZES.iter().flat_map(|size| [json!(["text", size]), json!(["binary", size])]).collect();
    assert_eq!(result["echoed"], Value::Array(expected), "{result}");
    assert!(result["extensions"].as_str().unwrap().contains("permessage-deflate"), "{result}");
    assert_eq!((&result["wasClean"], &result["code"]), (&true.into(), &1000.into()));
}

/// The page that is open does not come from the server.
fn pages_of_other_origins_are_refused(browser: &Browser, url: &str) {
    let result = browser.run(
        r#"
        const socket = new WebSocket(arguments.url);
        return await new Promise((resolve) => {
            socket.onopen = () => resolve("opened");
            socket.onclose = ({ wasClean, code }) => resolve({ wasClean, code });
        });
        "#,
        json!({ "url": url }),
    );
    assert_eq!(result, json!({ "wasClean": false, "code": 1006 }));
}

/// Serves RPC over WebSocket on a free port, and counts the connections that open.
async fn serve_rpc(opened: Arc<AtomicUsize>) -> getty_tokio::Server {
    let services = Services::new().on_connect(move |_peer, _opening| {
        opened.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let protocol = WebSocket::serving_of(rpc::packages, ServerOptions::new());
    let server = getty_tokio::Server::builder();
    server.tcp("127.0.0.1:0", protocol, move || services.listener()).await.unwrap()
}

/// The page of a server is its refusal of a plain request: its origin is what counts.
#[test]
fn a_page_calls_its_own_server_and_no_other() {
    let Some(browser) = start() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let [opened, called] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let servers = [&opened, &called].map(|count| runtime.block_on(serve_rpc(count.clone())));
    let [own, other] = servers.each_ref().map(getty_tokio::Server::local_addr);
    browser.open(&format!("http://{own}/"));
    let result = browser.run(
        r#"
        const open = (url) => new Promise((resolve) => {
            const socket = new WebSocket(url, ["getty-rpc.2"]);
            socket.onopen = () => resolve(["opened", socket.protocol]);
            socket.onclose = ({ code }) => resolve(["closed", code]);
        });
        return { origin: location.origin, own: await open(arguments.own), other: await open(arguments.other) };
        "#,
        json!({ "own": format!("ws://{own}/"), "other": format!("ws://{other}/") }),
    );
    let expected = json!({ "origin": format!("http://{own}"), "own": ["opened", "getty-rpc.2"], "other": ["closed", 1006] });
    assert_eq!(result, expected);
    assert_eq!((opened.load(Ordering::SeqCst), called.load(Ordering::SeqCst)), (1, 0));
}
