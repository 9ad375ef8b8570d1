//! Does a command that cannot do its work say why, in one line and by its exit code?

use std::fs::{self, File};
use std::process::Command;

use walengine_tests::server::{Launch, TestDir, binary, run_command};

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_file_that_cant_be_imported_is_one_line_and_nothing_is_lost() {
    let dir = TestDir::new("commands");
    let mut server = Launch::new(dir.path()).serve();
    let bad = dir.path().join("bad.csv");
    let import = |content: &str| {
        fs::write(&bad, content).unwrap();
        run_command(Some(&server), dir.path(), &["import", bad.to_str().unwrap()])
    };
    let output = import("id,debit_account\n1,2\n");
    let text = said(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(11), 1), "{text}");
    assert!(text.contains("no column credit_account"), "{text}");

    let output = import("id,debit_account,credit_account,amount,ledger,code\n1,a,b,ten,1,1\n");
    let text = said(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("1 rows were refused"), "{text}");

    let output = run_command(Some(&server), dir.path(), &["import", "/nowhere/transfers.csv"]);
    let text = said(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(11), 1), "{text}");
    assert!(text.contains("/nowhere/transfers.csv"), "{text}");
    server.stop();
}

#[test]
fn an_address_without_a_server_is_one_line_that_names_it() {
    let dir = TestDir::new("wrong-address");
    // Nobody listens on port 1.
    let arguments = ["status", "--server", "127.0.0.1:1"];
    let output = run_command(None, dir.path(), &arguments);
    let text = said(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(9), 1), "{text}");
    assert!(text.contains("no server at 127.0.0.1:1"), "{text}");
}

/// Each was once passed over, or told in words that name something else.
#[test]
fn a_slip_in_a_command_line_is_a_usage_error_that_says_what_to_write() {
    let dir = TestDir::new("slips");
    let braces = "{550e8400-e29b-41d4-a716-446655440000}";
    for (arguments, why) in [
        (&["status", "--server", "127.0.0.1"][..], "127.0.0.1 has no port"),
        (&["status", "--server", "127.0.0.1:1,db.example"], "db.example has no port"),
        (&["account", "crate", "x"], "create may be meant by crate"),
        (&["account", braces], "the UUID alone"),
        (&["transfer", "a", "b", "1", "--id", braces], "the UUID alone"),
        (&["transfer", "a", "b", "12,34"], "write digits"),
        (&["transfer", "a", "b", "1e3"], "write digits"),
    ] {
        let output = run_command(None, dir.path(), arguments);
        let text = said(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{text}");
        assert!(text.contains(why), "{arguments:?}: {text}");
    }
}

#[test]
fn help_that_cant_be_written_is_an_error_and_pages_get_their_directory() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for arguments in [&["--help"][..], &["transfer", "--help"], &["--version"]] {
        let output = Command::new(binary()).args(arguments).stdout(full()).output().unwrap();
        let text = said(&output);
        assert_eq!((output.status.code(), text.lines().count()), (Some(11), 1), "{text}");
    }
    let dir = TestDir::new("pages");
    let output = run_command(None, dir.path(), &["man", "share/man/man1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(dir.path().join("share/man/man1/walengine.1").is_file());
}

#[test]
fn a_sample_can_be_imported_and_importing_it_again_changes_nothing() {
    let dir = TestDir::new("sample");
    let mut server = Launch::new(dir.path()).serve();
    let arguments = ["sample", "--accounts", "100", "--transfers", "5000", "--seed", "3"];
    let output = run_command(None, dir.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 5001);
    fs::write(dir.path().join("bank.csv"), &output.stdout).unwrap();
    let import = || {
        let output =
            run_command(Some(&server), dir.path(), &["import", "bank.csv", "--create-accounts"]);
        assert_eq!(output.status.code(), Some(1), "some rows are to be refused: {}", said(&output));
        let summary = String::from_utf8(output.stdout).unwrap();
        let number = |name: &str| {
            let line = summary.lines().find(|line| line.starts_with(name));
            line.map_or(0, |line| line[name.len()..].trim().parse::<u64>().unwrap())
        };
        ["rows", "accepted", "repeats", "twice in file", "refused", "  ledger_differs"].map(number)
    };
    let [rows, accepted, repeats, twice, refused, not_sent] = import();
    assert_eq!((rows, repeats), (5000, 0));
    assert!(accepted > 4800 && twice > 5 && refused > 0, "{accepted} {twice} {refused}");
    let repeats = 5000 - twice - not_sent;
    let again = [5000, 0, repeats, twice, refused, not_sent];
    assert_eq!(import(), again, "every row that was sent has its verdict");
    server.stop();
}
