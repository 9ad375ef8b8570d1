//! Does the first command show a bank that lives, and does what it says to paste work as it stands?

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use walengine_tests::http::Http;
use walengine_tests::server::{TestDir, binary, text};
use walengine_tests::trio::free_address;

/// Runs lines as a person pastes them.
fn paste(lines: &str) -> String {
    let mut bash = Command::new("bash");
    // pip tells of its own releases, and where that stands among the lines is no matter.
    bash.args(["-ec", lines]).current_dir(root()).env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{lines}\n{}", text(&output));
    text(&output)
}

/// Ends the demonstration, and what it has started, also where the test fails.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-INT", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait(); // it removes what it wrote
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The package for Python, of which the lines install the source: built once for all tests, and not for each.
fn wheel(dir: &Path) -> PathBuf {
    const MAKE: &str = ". ../scripts/lib.sh && . ./wheel.sh && with_wheel cp -t \"$0\"";
    let mut make = Command::new("bash");
    make.args(["-euo", "pipefail", "-c", MAKE]).arg(dir).current_dir(root().join("python"));
    let output = make.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let mut wheels = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    wheels.next().unwrap()
}

#[test]
fn the_demonstration_lives_until_it_is_interrupted_and_what_it_prints_can_be_pasted() {
    let [clients, http, metrics] = [(); 3].map(|()| free_address());
    let dir = TestDir::new("demo");
    let demo = Command::new(root().join("scripts/demo.sh"))
        .env("WALENGINE_DEMO_PROGRAMS", binary().parent().unwrap())
        .env("WALENGINE_DEMO_WHEEL", wheel(dir.path()))
        .env("WALENGINE_DEMO_PORT", clients.port().to_string())
        .env("WALENGINE_DEMO_HTTP_PORT", http.port().to_string())
        .env("WALENGINE_DEMO_METRICS_PORT", metrics.port().to_string())
        .process_group(0) // so that it gets its Ctrl-C as from a terminal
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut demo = Demo(demo);
    let mut said = String::new();
    for line in BufReader::new(demo.0.stdout.take().unwrap()).lines() {
        said += &(line.unwrap() + "\n");
        if said.ends_with("removes what it wrote.\n") {
            break;
        }
    }
    let after = |mark: &str, lines: usize| {
        let rest = said.split_once(mark).unwrap_or_else(|| panic!("no {mark:?} in\n{said}")).1;
        let lines: Vec<&str> = rest.trim_start_matches('\n').lines().take(lines).collect();
        lines.join("\n")
    };
    assert!(paste(&after("By curl", 2)).contains("\"verdict\":\"ok\""));
    assert!(paste(&after("By command line", 1)).contains("ok"));
    assert_eq!(paste(&after("By Python", 2)).trim(), "OK");

    let mut asked = Http::connect(http);
    assert_eq!(asked.get("/console").status, 200);
    let records = |asked: &mut Http| {
        let cluster = asked.get("/api/v1/cluster").json();
        let ends = cluster["partitions"].as_array().unwrap().iter();
        ends.map(|one| one["committed_offset"].as_str().unwrap().parse::<u64>().unwrap()).sum()
    };
    let before: u64 = records(&mut asked);
    while records(&mut asked) == before {} // the customers pay
    let psql = after("PostgreSQL", 1);
    while !paste(&psql).contains("(5 rows)") {} // the projector comes after

    paste(&format!("kill -INT -- -{}", demo.0.id()));
    assert!(demo.0.wait().unwrap().success());
    let left = psql.split_whitespace().skip_while(|word| *word != "-h").nth(1).unwrap();
    assert!(!Path::new(left).exists(), "{left} is left");
}
