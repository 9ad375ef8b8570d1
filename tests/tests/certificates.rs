//! Does `walengine cert` make what a cluster needs, and never spoil what is there?

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use walengine_tests::credentials::Credentials;
use walengine_tests::server::{TestDir, binary, run_command, text};

/// Commands in one directory.
struct Certs {
    dir: TestDir,
}

impl Certs {
    /// With the authority of the cluster `bank`.
    fn new(test: &str) -> Self {
        let certs = Self { dir: TestDir::new(test) };
        certs.says("ca --cluster bank");
        certs
    }

    fn run(&self, command: &str) -> Output {
        Credentials::at(self.dir.path()).run(command)
    }

    /// What it says; it must succeed.
    fn says(&self, command: &str) -> String {
        let output = self.run(command);
        assert_eq!(output.status.code(), Some(0), "{command}: {}", text(&output));
        text(&output)
    }

    /// Its one line; it must fail with this exit code and change nothing.
    fn refuses(&self, code: i32, command: &str) -> String {
        let before = self.tree();
        let output = self.run(command);
        let said = text(&output);
        assert_eq!(
            (output.status.code(), said.lines().count()),
            (Some(code), 1),
            "{command}: {said}"
        );
        assert!(before == self.tree(), "{command} has changed something: {said}");
        said
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap()
    }

    /// All files, with their contents; directories without.
    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let (mut found, mut open) = (BTreeMap::new(), vec![self.dir.path().to_owned()]);
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.dir.path()).unwrap().to_str().unwrap().to_owned();
                let is_dir = path.symlink_metadata().unwrap().is_dir();
                found.insert(
                    name,
                    if is_dir { Vec::new() } else { fs::read(&path).unwrap_or_default() },
                );
                open.extend(is_dir.then_some(path));
            }
        }
        found
    }

    /// Whether openssl takes a certificate for a use, with what else it shall look at.
    fn is_good(&self, who: &str, purpose: &str, further: &[&str]) -> bool {
        let mut command = Command::new("openssl");
        command.args(["verify", "-CAfile", "certs/ca/ca.pem", "-purpose", purpose]).args(further);
        command.arg(format!("certs/{who}/identity.pem")).current_dir(self.dir.path());
        let output = command.output().unwrap();
        let said = text(&output);
        assert!(said.contains("identity.pem"), "openssl said nothing of it: {said}");
        output.status.success()
    }

    /// A field of a certificate, as openssl prints it.
    fn field(&self, who: &str, field: &[&str]) -> String {
        let file = format!("certs/{who}/identity.pem");
        openssl(self.dir.path(), &[&["x509", "-noout", "-in", &file], field].concat())
    }
}

fn openssl(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn three_commands_make_what_a_cluster_needs() {
    let certs = Certs::new("certificates");
    certs.says("node 1 2 3 --address 1=10.0.0.1,n1.example --address 2=10.0.0.2");
    certs.says("client payments");
    certs.says("projector warehouse");
    certs.says("admin ops");
    let shown = certs.says("show");
    assert_eq!(shown.matches("believed   yes").count(), 6, "{shown}");

    let tree = certs.tree();
    for (path, content) in &tree {
        let at = certs.dir.path().join(path);
        let wanted = if at.is_dir() {
            0o700
        } else if at.extension().is_some_and(|kind| kind == "key") {
            0o600
        } else {
            0o644
        };
        assert_eq!(mode(&at), wanted, "{path}");
        assert!(at.is_dir() || !content.is_empty(), "{path} is empty");
        assert!(!path.contains("/."), "{path} was left behind");
    }
    let files = |dir: &str| {
        let within = tree.keys().filter_map(|path| path.strip_prefix(&format!("certs/{dir}/")));
        within.map(ToOwned::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(files("ca"), "ca.key ca.pem gossip.key policy.toml");
    assert_eq!(files("node-1"), "ca.pem gossip.key identity.key identity.pem policy.toml");
    assert_eq!(files("client-payments"), "ca.pem identity.key identity.pem");
    for of_all in ["ca.pem", "gossip.key", "policy.toml"] {
        let of_node = certs.read(&format!("certs/node-3/{of_all}"));
        assert!(of_node == certs.read(&format!("certs/ca/{of_all}")), "{of_all}");
    }

    let names = ["-ext", "subjectAltName"];
    let first = certs.field("node-1", &names);
    assert!(
        first.contains("URI:spiffe://bank/node/1, IP Address:10.0.0.1, DNS:n1.example"),
        "{first}"
    );
    let third = certs.field("node-3", &names);
    assert!(
        third.contains("DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1"),
        "{third}"
    );
    let client = certs.field("client-payments", &names);
    assert!(client.trim().ends_with("URI:spiffe://bank/client/payments"), "{client}");
    for (who, serves) in [
        ("node-1", true),
        ("client-payments", false),
        ("projector-warehouse", false),
        ("admin-ops", false),
    ] {
        assert!(certs.is_good(who, "sslclient", &[]), "{who} can't connect");
        assert_eq!(certs.is_good(who, "sslserver", &[]), serves, "{who}");
    }
    let authority = openssl(
        certs.dir.path(),
        &["x509", "-noout", "-in", "certs/ca/ca.pem", "-ext", "basicConstraints,keyUsage"],
    );
    for said in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign"] {
        assert!(authority.contains(said), "{authority}");
    }
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let certs = Certs::new("certificates-kept");
    let at = |name: &str| certs.dir.path().join("certs").join(name);
    certs.says("node 2");
    fs::create_dir(at("node-3")).unwrap();
    fs::write(at("node-4"), "a file").unwrap();
    symlink("nowhere", at("node-5")).unwrap();
    for taken in [2, 3, 4, 5] {
        // What is taken is seen before the first one is made.
        let said = certs.refuses(11, &format!("node 1 {taken}"));
        assert!(said.contains(&format!("certs/node-{taken} exists already")), "{said}");
        assert!(said.contains("--renew"), "{said}");
    }
    assert!(certs.refuses(11, "ca --cluster bank").contains("certs/ca exists already"));
    assert!(certs.refuses(11, "gossip-key").contains("--next"));
    assert!(certs.refuses(11, "gossip-key certs/ca/ca.pem").contains("exists already"));
    certs.says("node 1");
}

/// Two at once would each write a list without what the other has revoked.
#[test]
fn one_command_at_a_time_changes_a_directory() {
    let certs = Certs::new("certificates-locked");
    certs.says("client payments");
    let held = fs::File::open(certs.dir.path().join("certs")).unwrap();
    held.lock().unwrap();
    for command in ["client reporting", "client payments --renew", "revoke certs/client-payments"] {
        let said = certs.refuses(4, command);
        assert!(said.contains("another `walengine cert` works in certs"), "{said}");
    }
    certs.says("show");
    drop(held);
    certs.says("revoke certs/client-payments");
}

#[test]
fn an_interrupted_command_leaves_nothing_half_made() {
    let certs = Certs::new("certificates-cut");
    certs.says("node 1");
    // A file of more bytes than a key and fewer than a certificate has ends the process while it writes.
    let cut = |command: &str| {
        let before = certs.tree();
        let mut limited = Command::new("prlimit");
        limited.arg("--fsize=400").arg("--core=0").arg(binary()).arg("cert");
        limited.args(command.split(' ')).current_dir(certs.dir.path());
        let output = limited.output().unwrap();
        assert!(!output.status.success(), "{command} was to end amid its work: {}", text(&output));
        let after = certs.tree();
        let changed: Vec<_> = after
            .iter()
            .filter(|(path, content)| !path.contains("/.") && before.get(*path) != Some(*content))
            .collect();
        assert!(changed.is_empty(), "{command}: {changed:?}");
        assert!(after.len() > before.len(), "{command} did not get that far: {}", text(&output));
    };
    cut("node 2");
    cut("node 1 --renew");
    certs.says("node 2");
    certs.says("node 1 --renew");
    certs.says("show");
    let left: Vec<_> = certs.tree().into_keys().filter(|path| path.contains("/.")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn renewal_replaces_certificate_and_key_and_nothing_else() {
    let certs = Certs::new("certificates-renewed");
    certs.says("node 1 --address 10.0.0.1,n1.example --days 3");
    assert!(certs.says("show certs/node-1").contains("expires in 2 days"));
    let (before, serial) = (certs.tree(), certs.field("node-1", &["-serial"]));
    // Whoever has opened a file reads it to its end as it was.
    let dir = certs.dir.path();
    fs::hard_link(dir.join("certs/node-1/identity.pem"), dir.join("opened")).unwrap();

    certs.says("node 1 --renew");
    assert!(certs.read("opened").as_bytes() == before["certs/node-1/identity.pem"]);
    fs::remove_file(dir.join("opened")).unwrap();
    let after = certs.tree();
    let changed: Vec<_> =
        after.iter().filter(|(path, content)| before[*path] != **content).collect();
    let changed: Vec<_> = changed.into_iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(changed, ["certs/node-1/identity.key", "certs/node-1/identity.pem"]);
    assert_ne!(certs.field("node-1", &["-serial"]), serial);
    let shown = certs.says("show certs/node-1");
    assert!(shown.contains("10.0.0.1, n1.example") && !shown.contains("expires in"), "{shown}");
    assert_eq!(mode(&dir.join("certs/node-1/identity.key")), 0o600);

    certs.says("node 1 --renew --address 10.0.0.9");
    assert!(certs.says("show certs/node-1").contains("addresses  10.0.0.9\n"));
    assert!(certs.refuses(11, "node 2 --renew").contains("there is no certs/node-2 to renew"));
    fs::rename(dir.join("certs/node-1"), dir.join("certs/node-2")).unwrap();
    let said = certs.refuses(11, "node 2 --renew");
    assert!(said.contains("it is of node/1 of cluster bank, not of node/2"), "{said}");
}

#[test]
fn a_revoked_certificate_is_on_every_list_from_then_on() {
    let certs = Certs::new("certificates-revoked");
    certs.says("client payments reporting lost");
    certs.says("node 1");
    let revoked = |who: &str| {
        let file = format!("certs/{who}/revoked.pem");
        !certs.is_good(who, "sslclient", &["-crl_check", "-CRLfile", &file])
    };
    let said = certs.says("revoke certs/client-payments");
    assert!(said.contains("revoked client/payments: serial "), "{said}");
    assert!(said.contains("client-lost, client-payments, client-reporting, node-1"), "{said}");
    assert!(revoked("client-payments") && !revoked("client-reporting") && !revoked("node-1"));
    let output = certs.run("show certs/client-payments");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("! revoked    yes, on "), "{}", text(&output));

    // By a file, and by a serial number alone: the directory is gone.
    let serial = certs.field("client-lost", &["-serial"]);
    let serial = serial.trim().strip_prefix("serial=").unwrap().to_ascii_lowercase();
    let lost = certs.dir.path().join("certs/client-lost");
    fs::rename(lost, certs.dir.path().join("elsewhere")).unwrap();
    certs.says(&format!("revoke certs/client-reporting/identity.pem --serial {serial}"));
    fs::rename(certs.dir.path().join("elsewhere"), certs.dir.path().join("certs/client-lost"))
        .unwrap();
    let list = certs.read("certs/ca/revoked.pem");
    fs::write(certs.dir.path().join("certs/client-lost/revoked.pem"), &list).unwrap();
    for who in ["client-payments", "client-reporting", "client-lost"] {
        assert!(revoked(who), "{who}");
    }
    assert!(!revoked("node-1"));
    let again = certs.says("revoke certs/client-payments");
    assert!(again.contains("client/payments was revoked before"), "{again}");
    let shown = certs.says("show certs/ca");
    assert!(shown.contains("list 3 of ") && shown.contains("with 3 entries"), "{shown}");

    // Who comes later gets the list, and who is renewed is on it no more.
    certs.says("node 2");
    assert!(!revoked("node-2"));
    certs.says("client payments --renew");
    assert!(!revoked("client-payments"));
}

#[test]
fn an_authority_revokes_only_what_it_has_signed() {
    let certs = Certs::new("certificates-foreign");
    certs.says("client payments");
    certs.says("ca --cluster bank --dir other");
    certs.says("client payments --dir other");
    let said = certs.refuses(11, "revoke other/client-payments");
    assert!(said.contains("certs/ca has not signed it"), "{said}");
    // Its directories are left alone, wherever they are.
    let dir = certs.dir.path();
    fs::rename(dir.join("other/client-payments"), dir.join("certs/client-other")).unwrap();
    let said = certs.says("revoke certs/client-payments");
    assert!(said.contains("and in client-payments:"), "{said}");
    assert!(!dir.join("certs/client-other/revoked.pem").exists());
}

/// Certificates as a company's own tools make them: RSA, an authority between, other names.
#[test]
fn certificates_of_another_authority_are_understood_and_left_to_it() {
    let certs = Certs { dir: TestDir::new("certificates-own") };
    let dir = certs.dir.path();
    let script = "set -e
        ca() { printf 'basicConstraints=critical,CA:TRUE\\nkeyUsage=keyCertSign,cRLSign\\n'; }
        openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -subj '/C=CH/CN=Root' -days 9
        openssl req -newkey rsa:2048 -nodes -keyout between.key -out between.csr -subj /CN=Between
        openssl x509 -req -in between.csr -CA root.pem -CAkey root.key -CAcreateserial -days 9 \
            -extfile <(ca) -out between.pem
        openssl req -newkey rsa:2048 -nodes -keyout identity.key -out leaf.csr -subj /CN=ignored
        openssl x509 -req -in leaf.csr -CA between.pem -CAkey between.key -CAcreateserial -days 9 \
            -extfile <(printf 'subjectAltName=URI:spiffe://bank/node/7,DNS:n7.example\\n'
                       printf 'extendedKeyUsage=serverAuth,clientAuth\\n') -out leaf.pem
        mkdir -p certs/ca own && cat leaf.pem between.pem >own/identity.pem && cp root.pem own/ca.pem
        cp identity.key own/ && chmod 600 own/identity.key
        cp root.pem certs/ca/ca.pem && cp root.key certs/ca/ca.key && chmod 600 certs/ca/ca.key";
    let made = Command::new("bash").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let shown = certs.says("show own");
    for said in ["node/7 of cluster bank", "n7.example", "identity.key belongs", "believed   yes"] {
        assert!(shown.contains(said), "{shown}");
    }
    let said = certs.refuses(11, "client payments");
    assert!(said.contains("was not made by `walengine cert ca`"), "{said}");
    // An authority that says its cluster, and whose name is written in another way than ours.
    let own = "openssl req -x509 -newkey rsa:2048 -nodes -keyout certs/ca/ca.key -out certs/ca/ca.pem \
        -subj '/C=CH/CN=Root' -days 9 -addext subjectAltName=URI:spiffe://bank";
    let made = Command::new("bash").args(["-c", own]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let said = certs.refuses(11, "client payments");
    assert!(said.contains("was not made by `walengine cert ca`"), "{said}");
}

#[test]
fn gossip_passes_from_one_key_to_another_in_three_steps() {
    let certs = Certs::new("certificates-gossip");
    certs.says("node 1 2");
    let keys = || -> Vec<String> {
        let own = certs.read("certs/ca/gossip.key");
        for copy in ["node-1", "node-2"] {
            assert!(own == certs.read(&format!("certs/{copy}/gossip.key")), "{copy}");
        }
        own.lines().map(ToOwned::to_owned).collect()
    };
    let old = keys();
    assert!(old.len() == 1 && old[0].len() == 64, "one line of 64 digits");
    assert!(certs.refuses(11, "gossip-key --use-next").contains("--next puts one into it"));
    assert!(certs.refuses(11, "gossip-key --drop-old").contains("in use"));
    certs.says("gossip-key --next");
    let both = keys();
    assert!(both.len() == 2 && both[0] == old[0], "the old one seals");
    assert!(certs.refuses(11, "gossip-key --next").contains("a second key already"));
    certs.says("gossip-key --use-next");
    assert!(keys() == [both[1].clone(), old[0].clone()]);
    certs.says("gossip-key --drop-old");
    assert!(keys() == both[1..]);
    certs.says("gossip-key alone.key");
    assert_eq!(mode(&certs.dir.path().join("alone.key")), 0o600);
    fs::copy(certs.dir.path().join("alone.key"), certs.dir.path().join("certs/node-2/gossip.key"))
        .unwrap();
    let said = certs.says("gossip-key --next");
    assert!(said.contains("certs/node-2/gossip.key has other keys"), "{said}");
    assert!(certs.read("certs/node-2/gossip.key") == certs.read("alone.key"));
}

#[test]
fn a_mistake_is_one_line_that_says_what_to_do() {
    let certs = Certs::new("certificates-mistakes");
    certs.says("node 1");
    for (code, command, said) in [
        (2, "clinet payments", "similar subcommand exists: 'client'"),
        (2, "node", "<ID>"),
        (2, "node one", "'one'"),
        (2, "node 0", "'0'"),
        (2, "node 2 2", "node/2 is named twice"),
        (2, "node 2 --adress 10.0.0.2", "similar argument exists: '--address'"),
        (2, "node 2 --address 10.0.0.2:7450", "has a port"),
        (2, "node 2 --address 3=10.0.0.3", "node 3, which is not among those"),
        (2, "node 2 --day 3", "similar argument exists: '--days'"),
        (2, "node 2 --days 0", "'0'"),
        (2, "node 1 --renw", "similar argument exists: '--renew'"),
        (2, "client a/b", "'a/b' can't be a client"),
        (2, "client .a", "does not begin with '.'"),
        (2, "ca --dir elsewhere", "--cluster"),
        (2, "ca --cluster a/b --dir elsewhere", "letters, digits"),
        (2, "ca --clutser bank --dir elsewhere", "similar argument exists: '--cluster'"),
        (2, "revoke", "<DIR_OR_PEM>"),
        (2, "revoke --serial xy", "hexadecimal"),
        (2, "gossip-key --nxt", "similar argument exists: '--next'"),
        (2, "gossip-key --next --drop-old", "cannot be used with"),
        (2, "show --days 3", "unexpected argument"),
        (11, "node 2 --dir nowhere", "there is no authority in nowhere/ca"),
        (11, "client payments --renew", "there is no certs/client-payments to renew"),
        (11, "revoke nowhere", "cannot read nowhere"),
        (11, "revoke certs", "cannot read certs/identity.pem"),
        (11, "revoke certs/ca/ca.key", "no certificate in it"),
        (11, "show nowhere", "cannot read nowhere"),
        (11, "gossip-key nowhere/gossip.key", "there is no directory nowhere"),
        (11, "gossip-key --next --dir nowhere", "there is no directory nowhere/ca"),
    ] {
        let told = certs.refuses(code, command);
        assert!(told.contains(said), "{command}: {told}");
    }
    let alone = run_command(None, certs.dir.path(), &["cert"]);
    let told = text(&alone);
    assert_eq!((alone.status.code(), told.lines().count()), (Some(2), 1), "{told}");
    assert!(told.contains("subcommand") && told.len() < 300, "{told}");

    // A key that others can read, and files that are damaged, sign nothing.
    let key = certs.dir.path().join("certs/ca/ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(certs.refuses(11, "client payments").contains("chmod 600"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::copy(certs.dir.path().join("certs/node-1/identity.key"), &key).unwrap();
    assert!(certs.refuses(11, "client payments").contains("the key of no certificate in ca.pem"));
    fs::write(&key, "nothing").unwrap();
    assert!(certs.refuses(11, "client payments").contains("no private key in it"));
    fs::write(certs.dir.path().join("certs/ca/ca.pem"), "nothing").unwrap();
    assert!(certs.refuses(11, "client payments").contains("no certificate in it"));
}
