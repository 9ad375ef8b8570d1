//! Does an import post exactly what its file says, whole or not at all, and nothing of a file that is
//! broken? By the command line, on a real server.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use walengine_tests::server::{Launch, Server, TestDir, binary, run_command};

const H: &str = "id,debit_account,credit_account,amount,ledger,code";

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Imports a file with this content.
fn import(server: &Server, dir: &TestDir, content: impl AsRef<[u8]>, more: &[&str]) -> Output {
    fs::write(dir.path().join("in.csv"), content).unwrap();
    let mut arguments = vec!["import", "in.csv"];
    arguments.extend(more);
    run_command(Some(server), dir.path(), &arguments)
}

/// Exit code and lines of stderr of an import of which nothing may be sent.
fn sends_nothing(server: &Server, output: &Output, code: i32, words: &str) {
    let text = stderr(output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(code), 1), "{text}");
    assert!(text.contains(words) && text.contains("nothing was sent"), "{words}: {text}");
    assert_eq!(records(server), 0, "{text}");
}

/// Records in the log of the only partition.
fn records(server: &Server) -> u64 {
    let client = server.client();
    let partition = client.info().partitions().next().unwrap();
    client.list_accounts(partition, None, 1, &[]).unwrap().next_offset.0
}

/// Debits and credits posted, by account.
fn balances(server: &Server, dir: &Path, names: &[&str]) -> HashMap<String, (u128, u128)> {
    fs::write(dir.join("names.csv"), format!("account\n{}\n", names.join("\n"))).unwrap();
    let arguments = ["accounts", "--from", "names.csv", "--format", "csv", "--linearizable"];
    let output = run_command(Some(server), dir, &arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let number = |text: &str| text.parse().unwrap_or(0);
    rows.map(|row| (row[0].to_owned(), (number(row[4]), number(row[6])))).collect()
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", stderr(output)))
}

#[test]
fn a_chain_goes_whole_or_not_at_all() {
    let dir = TestDir::new("imports-chain");
    let mut server = Launch::new(dir.path()).serve();
    let h = format!("{H},flags\n");
    // A leg in the middle, the last leg, and a stranger behind it.
    let text = format!(
        "{h}1,a,b,10,1,1,linked\n2,a,c,1.5,1,1,linked\n3,a,d,10,1,1,\n\
         4,a,b,10,1,1,linked\n5,a,b,x,1,1,\n6,a,stranger,7,1,1,\n"
    );
    let output = import(&server, &dir, text, &["--create-accounts", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("5 rows were refused (the first: line 2"), "{output:?}");
    let said = json(&output);
    assert_eq!((&said["accepted"], &said["refused"]), (&1.into(), &5.into()), "{said}");
    assert_eq!(said["reasons"]["unreadable"], 2);
    assert_eq!(said["reasons"]["chain_incomplete"], 3);
    let found = balances(&server, dir.path(), &["a", "stranger", "b"]);
    assert_eq!((found["a"], found["stranger"], found["b"]), ((7, 0), (0, 7), (0, 0)));
    let refused = fs::read_to_string(dir.path().join("in.refused.csv")).unwrap();
    let lines: Vec<&str> = refused.lines().skip(1).map(|line| &line[..2]).collect();
    assert_eq!(lines, ["2,", "3,", "4,", "5,", "6,"], "every leg with its line: {refused}");

    // Mended, the refused rows are taken back, chain and all.
    let mended = refused.replace("1.5", "15").replace(",x,", ",1,");
    let output = import(&server, &dir, mended, &["--create-accounts"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(balances(&server, dir.path(), &["a"])["a"], (7 + 35 + 11, 0));
    server.stop();
}

#[test]
fn long_chains_begin_a_batch_and_longer_ones_are_refused_with_their_line() {
    let dir = TestDir::new("imports-long");
    let mut server = Launch::new(dir.path()).serve();
    let chain = |from: u32, legs: u32, last: &str| {
        let leg = |leg: u32| {
            let (amount, flag) = if leg < legs { ("1", "linked") } else { (last, "") };
            format!("{},a,chain,{amount},1,1,{flag}\n", from + leg)
        };
        (1..=legs).map(leg).collect::<Vec<_>>().concat()
    };
    let singles: Vec<String> = (1..=7000).map(|id| format!("{id},a,single,1,1,1,\n")).collect();
    let singles = singles.concat();
    let text = format!("{H},flags\n{singles}{}", chain(10_000, 1500, "1.5"));
    let output = import(&server, &dir, text, &["--create-accounts"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let found = balances(&server, dir.path(), &["single", "chain"]);
    assert_eq!((found["single"], found["chain"]), ((0, 7000), (0, 0)));

    let text = format!("{H},flags\n{singles}{}", chain(10_000, 1500, "1"));
    let output = import(&server, &dir, text, &["--create-accounts"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(balances(&server, dir.path(), &["chain"])["chain"], (0, 1500));

    let text = format!("{H},flags\n{}{}", chain(20_000, 8190, "1"), chain(40_000, 8191, "1"));
    let output = import(&server, &dir, text, &["--format", "json"]);
    let said = json(&output);
    assert_eq!(
        (&said["accepted"], &said["reasons"]["chain_too_long"]),
        (&8190.into(), &8191.into())
    );
    assert!(stderr(&output).contains("line 8192"), "{}", stderr(&output));
    assert_eq!(balances(&server, dir.path(), &["chain"])["chain"], (0, 1500 + 8190));

    let output = import(&server, &dir, format!("{H},flags\n90000,a,chain,1,1,1,linked\n"), &[]);
    assert!(stderr(&output).contains("inside of its chain"), "{}", stderr(&output));
    assert_eq!(balances(&server, dir.path(), &["chain"])["chain"], (0, 1500 + 8190));
    server.stop();
}

#[test]
fn nothing_is_sent_of_a_file_that_is_broken() {
    let dir = TestDir::new("imports-broken");
    let mut server = Launch::new(dir.path()).serve();
    let good = "1,a,b,25,1,1\n";
    for (rows, words) in [
        ("21,x,y,1,203,1,1\n", "line 3: 7 fields, and the header has 6"),
        ("21,x,y,1\n", "line 3: 4 fields"),
        ("2,a,b,25,1,1", "line 3: the last line has no line end"),
        ("2,\"a,b,25,1,1\n3,a,b,1,1,1\n", "line 3: the quote that is opened here is never closed"),
        ("2,\"a\"x,b,25,1,1\n", "line 3: text after a closing quote"),
        ("2,a\"x\",b,25,1,1\n", "line 3: a quote inside"),
    ] {
        let text = format!("{H}\n{good}{rows}");
        let output = import(&server, &dir, &text, &["--create-accounts"]);
        sends_nothing(&server, &output, 11, words);
        // Whatever its name is.
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        let output = import(&server, &dir, packer.finish().unwrap(), &["--create-accounts"]);
        sends_nothing(&server, &output, 11, words);
    }
    for (more, words) in [
        ("Flags", "nearly flags"),
        ("timeout", "nearly timeout_seconds"),
        ("amount", "column amount twice"),
        ("memo", "--ignore-columns"),
        ("verdict", "walengine export"),
    ] {
        let text = format!("{H},{more}\n1,a,b,25,1,1,1\n");
        let output = import(&server, &dir, text, &["--create-accounts"]);
        sends_nothing(&server, &output, 11, words);
    }
    let wide = |text: &str| -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        [0xFF, 0xFE].into_iter().chain(units).collect()
    };
    let output = import(&server, &dir, wide(&format!("{H}\n{good}")), &["--create-accounts"]);
    sends_nothing(&server, &output, 11, "iconv -f UTF-16");
    let output = import(&server, &dir, format!("{H}\n{good}2,a,b,x,1,1\n"), &["--strict"]);
    sends_nothing(&server, &output, 11, "line 3: amount is \"x\"");
    let output = import(&server, &dir, format!("{H}\n{good}"), &["--refused", "in.csv"]);
    sends_nothing(&server, &output, 2, "name another");
    assert_eq!(fs::read(dir.path().join("in.csv")).unwrap(), format!("{H}\n{good}").as_bytes());
    server.stop();
}

#[test]
fn a_file_that_changes_between_its_check_and_its_import_is_told() {
    let dir = TestDir::new("imports-changes");
    let mut server = Launch::new(dir.path()).serve();
    let path = dir.path().join("in.csv");
    fs::write(&path, format!("{H}\n1,a,b,25,1,1\n")).unwrap();
    // The import connects once it has checked the file.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (between, behind) = (listener.local_addr().unwrap().to_string(), server.address());
    let changed = path.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut file = File::options().append(true).open(&changed).unwrap();
            file.write_all(b"2,a,b,25,1,1\n").unwrap();
            let (mut client, mut engine) = (stream.unwrap(), TcpStream::connect(behind).unwrap());
            let (mut to_client, mut from_client) =
                (client.try_clone().unwrap(), engine.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut client, &mut from_client));
            thread::spawn(move || std::io::copy(&mut engine, &mut to_client));
        }
    });
    let arguments = ["import", "in.csv", "--create-accounts", "--server", &between];
    let output = run_command(None, dir.path(), &arguments);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(11), "{text}");
    assert!(text.contains("changed while it was read"), "{text}");
    assert_eq!(balances(&server, dir.path(), &["b"])["b"], (0, 0));
    server.stop();
}

#[test]
fn accounts_are_looked_up_before_anything_is_sent() {
    let dir = TestDir::new("imports-accounts");
    let mut server = Launch::new(dir.path()).serve();
    let text = format!("{H}\n1,a,b,10,1,1\n2,a,c,10,1,1\n");
    let output = import(&server, &dir, &text, &[]);
    sends_nothing(
        &server,
        &output,
        11,
        "3 accounts are missing in book 0: a (line 2), b (line 2), c",
    );
    assert!(stderr(&output).contains("--create-accounts"));

    let dry = import(&server, &dir, &text, &["--create-accounts", "--dry-run", "--format", "json"]);
    assert_eq!((dry.status.code(), records(&server)), (Some(0), 0), "{}", stderr(&dry));
    let said = json(&dry);
    assert_eq!((&said["sent"], &said["accounts_created"]), (&2.into(), &3.into()), "{said}");

    // No row tells whether a is on ledger 1 or 2, and c would be alone on 2.
    let doubtful = format!("{H}\n1,a,b,10,1,1\n2,a,c,10,2,1\n");
    let output = import(&server, &dir, doubtful, &["--create-accounts"]);
    sends_nothing(&server, &output, 11, "line 2 has ledger 1, line 3 has ledger 2");

    let output = import(&server, &dir, &text, &["--create-accounts"]);
    assert_eq!(output.status.code(), Some(0), "the right run is not refused: {}", stderr(&output));
    let found = balances(&server, dir.path(), &["a", "c"]);
    assert_eq!((found["a"], found["c"]), ((20, 0), (0, 10)));

    let before = records(&server);
    let wrong = format!("{H}\n3,a,new,10,203,1\n");
    let output = import(&server, &dir, wrong, &["--create-accounts"]);
    assert_eq!((output.status.code(), records(&server)), (Some(11), before), "{}", stderr(&output));
    assert!(stderr(&output).contains("new on ledger 203 (line 2"), "{}", stderr(&output));

    // A ledger that the accounts will never have costs a row its id if it is sent.
    let wrong = format!("{H}\n4,a,b,5,2,1\n");
    let output = import(&server, &dir, &wrong, &[]);
    assert_eq!((output.status.code(), records(&server)), (Some(1), before), "{}", stderr(&output));
    assert!(stderr(&output).contains("debit_account is on ledger 1"), "{}", stderr(&output));
    let output = import(&server, &dir, &wrong, &["--strict"]);
    assert_eq!((output.status.code(), records(&server)), (Some(11), before), "{}", stderr(&output));
    let output = import(&server, &dir, wrong.replace(",2,1\n", ",1,1\n"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(balances(&server, dir.path(), &["b"])["b"], (0, 15));
    server.stop();
}

#[test]
fn ids_that_a_spreadsheet_broke_merge_nothing_and_twice_is_counted_apart() {
    let dir = TestDir::new("imports-ids");
    let mut server = Launch::new(dir.path()).serve();
    let text = format!(
        "{H}\n4.21E+14,a,b,1,1,1\n4.21E+14,a,b,2,1,1\n3,#REF!,b,4,1,1\n4,a,#N/A,8,1,1\n5,a,b,16,1,1\n\
         5,a,b,16,1,1\n6,a,b,32,1,1\n5,a,b,64,1,1\n"
    );
    let output = import(&server, &dir, &text, &["--create-accounts", "--format", "json"]);
    let said = json(&output);
    assert_eq!(said["reasons"]["unreadable"], 4, "{said}");
    assert_eq!((&said["accepted"], &said["repeats"]), (&2.into(), &0.into()), "{said}");
    assert_eq!(said["twice"], 2);
    assert_eq!(said["twice_lines"][0], serde_json::json!({"line": 7, "first_line": 6}));
    assert_eq!(said["twice_lines"][1], serde_json::json!({"line": 9, "first_line": 6}));
    assert_eq!(balances(&server, dir.path(), &["b"])["b"], (0, 48));

    // The token is one that a reader can name.
    let token = said["tokens"][0].as_str().unwrap();
    let output = run_command(Some(&server), dir.path(), &["account", "b", "--at", token]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = import(&server, &dir, text, &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("line 7 has the id of line 6") && said.contains("token "), "{said}");
    server.stop();
}

#[test]
fn refused_files_are_never_written_over_and_keep_every_byte() {
    let dir = TestDir::new("imports-refused");
    let mut server = Launch::new(dir.path()).serve();
    let text = format!("{H};memo\n", H = H.replace(',', ";")).into_bytes();
    let text = [&text[..], b"1;a;J\xFCrgen;10;1;1;\"=HYPERLINK(\"\"x\"\");-1\"\n"].concat();
    let more = ["--ignore-columns"];
    let output = import(&server, &dir, &text, &more);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("Latin-1"), "{}", stderr(&output));
    let first = fs::read(dir.path().join("in.refused.csv")).unwrap();
    let row = b"1;a;J\xFCrgen;10;1;1;\"'=HYPERLINK(\"\"x\"\");-1\"\n";
    assert!(first.ends_with(row), "{}", String::from_utf8_lossy(&first));
    import(&server, &dir, &text, &more);
    assert_eq!(fs::read(dir.path().join("in.refused.csv")).unwrap(), first);
    assert!(dir.path().join("in.refused.2.csv").exists());

    let output = import(&server, &dir, format!("{H}\n1,a,b,10,1,1\n"), &["--create-accounts"]);
    assert!(stderr(&output).contains("in.refused.csv is of an earlier import"), "{output:?}");
    std::os::unix::fs::symlink("in.csv", dir.path().join("link.csv")).unwrap();
    let output = import(&server, &dir, &text, &["--refused", "link.csv"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(fs::read(dir.path().join("in.csv")).unwrap(), text);
    server.stop();
}

#[test]
fn files_are_taken_as_people_have_them() {
    let dir = TestDir::new("imports-forms");
    let mut server = Launch::new(dir.path()).serve();
    let german =
        "id;debit_account;credit_account;Betrag;ledger;code\r\n1;a;b;12,34;1;1\r\n2;a;b;1;1;1\r\n";
    let more =
        ["--create-accounts", "--column", "amount=Betrag", "--scale", "2", "--decimal-comma"];
    let output = import(&server, &dir, german, &more);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(balances(&server, dir.path(), &["b"])["b"], (0, 1334));

    let mut command = Command::new(binary());
    command.args(["import", "-", "--scale", "2", "--server", &server.address().to_string()]);
    command.current_dir(dir.path()).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let text = format!("{}\n3\ta\tb\t0.66\t1\t1\n4\ta\tb\t0.005\t1\t1\n", H.replace(',', "\t"));
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("more than the 2 decimals"), "{}", stderr(&output));
    assert!(dir.path().join("stdin.refused.csv").exists());
    assert_eq!(balances(&server, dir.path(), &["b"])["b"], (0, 1400));

    let help = run_command(None, dir.path(), &["import", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for name in ["timeout_seconds", "user_data_32", "balancing_credit", "pending_id", "an example"]
    {
        assert!(help.to_lowercase().contains(name), "{name}: {help}");
    }
    server.stop();
}

#[test]
fn an_interrupt_ends_it_while_it_waits_for_a_server_and_says_how_far_it_is() {
    let dir = TestDir::new("imports-interrupt");
    fs::write(dir.path().join("in.csv"), format!("{H}\n1,a,b,25,1,1\n")).unwrap();
    // Takes connections and never answers. Nothing but the interrupt ends the import.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = Command::new(binary());
    command.args(["import", "in.csv", "--timeout", "600", "--server", &address]);
    command.current_dir(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting).unwrap();
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(130), 1), "{text}");
    assert!(text.contains("interrupted; nothing was sent"), "{text}");
}
