//! Does the console show in a real browser what is so, to everybody, and does its form pay once?
//!
//! The tests are in JavaScript, in `tests/console/`. This starts what they look at.

use std::path::{Path, PathBuf};
use std::process::Command;

use walengine_tests::http::Http;
use walengine_tests::postgres::Postgres;
use walengine_tests::projector::Projecting;
use walengine_tests::server::{Launch, TestDir, text};
use walengine_tests::trio::{Trio, free_address};

fn script(path: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
}

/// What is committed.
fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/console/dist")
}

#[test]
fn a_browser_shows_each_page_and_a_dying_node_and_pays_once() {
    let metrics = free_address().to_string();
    let flags = [("--http", "127.0.0.1:0"), ("--projector-metrics", &metrics)];
    let mut trio = Trio::form("console", &flags);
    let postgres = Postgres::start(trio.dir.path());
    let servers = trio.clients.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let projecting = Projecting::new(trio.dir.path(), &servers, &postgres.url());
    let _projector = projecting.set("--metrics", &metrics).spawn();

    // The node that leads dies: that is the most that can be seen.
    let dies = trio.leader();
    let (stays, process) = ((dies + 1) % 3, trio.server(dies).process_id());
    let mut tests = script("console/test.sh");
    tests.args([trio.server(stays).http_url(), process.to_string()]);
    let output = tests.output().unwrap();
    assert!(output.status.success(), "{}\n{}", text(&output), trio.logs());
    trio.kill(dies);
}

#[test]
fn what_is_committed_is_what_the_script_builds() {
    let dir = TestDir::new("console-build");
    let output = script("../scripts/console.sh").arg("--to").arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for file in ["index.html", "app.js", "app.css", "icon.svg"] {
        let committed = std::fs::read(dist().join(file)).unwrap();
        let built = std::fs::read(dir.path().join(file)).unwrap();
        assert!(committed == built, "{file}: run scripts/console.sh and commit what it builds");
    }
}

#[test]
fn its_files_come_from_the_binary_and_let_a_browser_ask_nobody_else() {
    let dir = TestDir::new("console-files");
    let server = Launch::new(dir.path()).set("--http", "127.0.0.1:0").serve();
    let mut http = Http::connect(server.http_url().trim_start_matches("http://").parse().unwrap());
    for (path, kind) in [
        ("/console", "text/html; charset=utf-8"),
        ("/console/app.js", "text/javascript; charset=utf-8"),
        ("/console/app.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        let answer = http.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        let file = path.strip_prefix("/console/").unwrap_or("index.html");
        let committed = std::fs::read_to_string(dist().join(file)).unwrap();
        assert!(!committed.is_empty() && answer.body == committed, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").unwrap();
        for allowed in policy.split(';').filter_map(|rule| rule.trim().split_once(' ')) {
            let is_strict = ["'self'", "'none'", "'script'"].contains(&allowed.1);
            assert!(is_strict, "{allowed:?}");
        }
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        let tag = format!("If-None-Match: {}", answer.header("etag").unwrap());
        // An answer of 304 has no body, and no length either.
        http.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{tag}\r\n\r\n").as_bytes());
        assert_eq!(http.head().0, 304, "{path}");
    }
    assert_eq!(http.get("/console/../metrics").status, 404);
    let elsewhere = http.ask("GET", "/console", &["Host: evil.example"], None);
    assert_eq!(elsewhere.status, 421, "a page of somebody else's name must not reach it");
}
