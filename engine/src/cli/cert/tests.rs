//! Is what is shown of a certificate true, at any time and of any authority?

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use walengine_net::tls::{CA_FILE, CERTIFICATE_FILE, KEY_FILE};

use super::authority::POLICY_TEXT;
use super::show::show;
use crate::policy::Policy;

const DAY: Duration = Duration::from_hours(24);
const CLIENT: &[&str] = &["spiffe://bank/client/payments"];

/// Whoever makes an authority and writes no rule must not lock out the operators.
#[test]
fn the_policy_to_start_from_says_what_holds_without_one() {
    assert_eq!(Policy::parse(POLICY_TEXT).unwrap(), Policy::default());
    let (_, example) = POLICY_TEXT.split_once("# [[allow]]").unwrap();
    let example = format!("[[allow]]{}", example.replace("# ", ""));
    assert_eq!(Policy::parse(&example).unwrap().len(), 1, "{example}");
}

/// An authority, and a directory for credentials of its making.
struct Made {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    params: CertificateParams,
    now: SystemTime,
}

impl Made {
    fn new(name: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("walengine-cert-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir); // of an older process with this number
        fs::create_dir(&dir).unwrap();
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = ((now - DAY).into(), (now + 10 * DAY).into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Self { dir, issuer: authority("anybody"), params, now }
    }

    /// Puts a certificate for these URIs there, with its key.
    fn certify(&mut self, uris: &[&str]) {
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        self.params.subject_alt_names = uris.collect();
        let key = KeyPair::generate().unwrap();
        let certificate = self.params.signed_by(&key, &self.issuer).unwrap();
        self.write(CA_FILE, &self.issuer.pem());
        self.write(CERTIFICATE_FILE, &certificate.pem());
        self.write(KEY_FILE, &key.serialize_pem());
        self.mode(0o600);
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    fn mode(&self, mode: u32) {
        fs::set_permissions(self.dir.join(KEY_FILE), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What is shown, and how much of it is wrong.
    fn shown(&self) -> (String, usize) {
        let shown = show(&self.dir).unwrap();
        let marked = shown.lines.iter().filter(|line| line.starts_with('!')).count();
        assert_eq!(marked, shown.wrong, "{:?}", shown.lines);
        (shown.lines.join("\n"), shown.wrong)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir); // only disk space is lost
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[test]
fn what_is_in_order_is_shown_so() {
    let mut made = Made::new("good");
    made.certify(CLIENT);
    let (text, wrong) = made.shown();
    assert_eq!(wrong, 0, "{text}");
    for said in
        ["client/payments of cluster bank", "expires in 9 days", "belongs to it", "yes, by ca.pem"]
    {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn time_is_told_in_words() {
    // From, to, in halves of a day.
    for (from, to, said, is_good) in [
        (5, 90, "not yet valid, begins in 2 days", false),
        (-2, 7, "expires in 3 days", true),
        (-2, 1, "expires in 11 hours", true),
        (-2, 63, "Z", true),
        (-90, -5, "expired 2 days ago", false),
    ] {
        let mut made = Made::new("time");
        let at = |halves: i32| {
            let span = DAY / 2 * halves.unsigned_abs();
            if halves < 0 { made.now - span } else { made.now + span }
        };
        (made.params.not_before, made.params.not_after) = (at(from).into(), at(to).into());
        made.certify(CLIENT);
        let (text, wrong) = made.shown();
        let line = text.lines().find(|line| line[2..].starts_with("valid ")).unwrap();
        assert!(line.ends_with(said), "{said}: {text}");
        // Outside its time both its validity and its being believed are wrong.
        assert_eq!(wrong, if is_good { 0 } else { 2 }, "{text}");
    }
}

#[test]
fn nobody_is_told_for_somebody() {
    for (uris, said) in [
        (&[][..], "it has no URI"),
        (&["spiffe://bank/client/a", "spiffe://bank/admin/b"], "it has 2 URIs"),
        (&["https://bank/client/a"], "not spiffe://CLUSTER/ROLE/NAME"),
        (&["spiffe://bank/root/a"], "its role is none of"),
        (&["spiffe://bank/node/03"], "without leading zeros"),
        (&["spiffe://bank/client/a\u{1b}[2J"], "letters, digits"),
    ] {
        let mut made = Made::new("nobody");
        made.certify(uris);
        let (text, wrong) = made.shown();
        assert!(wrong > 0 && text.contains("nobody: ") && text.contains(said), "{said}: {text}");
        assert!(!text.contains('\u{1b}'), "a terminal would obey it: {text:?}");
    }
}

#[test]
fn whoever_would_be_refused_is_told_so() {
    let mut made = Made::new("refused");
    made.certify(CLIENT);
    made.mode(0o640);
    assert!(made.shown().0.contains("others can read"), "{:?}", made.shown());
    made.write(KEY_FILE, &KeyPair::generate().unwrap().serialize_pem());
    assert!(made.shown().0.contains("does not belong to it"), "{:?}", made.shown());
    made.write(KEY_FILE, "not a key");
    assert!(made.shown().0.contains("no private key in it"), "{:?}", made.shown());
    fs::remove_file(made.dir.join(KEY_FILE)).unwrap();
    assert!(made.shown().0.contains("identity.key is missing"), "{:?}", made.shown());

    made.certify(CLIENT);
    // Of the same name, and yet another.
    made.write(CA_FILE, &authority("anybody").pem());
    let (text, wrong) = made.shown();
    assert!(wrong == 1 && text.contains("! believed   no: "), "{text}");

    made.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    made.certify(CLIENT);
    let (text, wrong) = made.shown();
    assert!(wrong == 2 && text.contains("server only"), "{text}");
    made.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    made.certify(&["spiffe://bank/node/3"]);
    let (text, wrong) = made.shown();
    assert!(wrong == 2 && text.contains("a node is a server, too"), "{text}");

    made.write(CERTIFICATE_FILE, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_eq!(made.shown().1, 1);
}

#[test]
fn a_chain_over_another_authority_is_believed() {
    let mut made = Made::new("chain");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "between\u{1b}[2J");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    let root = authority("root");
    made.issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
    made.certify(CLIENT);
    made.write(CA_FILE, &root.pem());
    assert_eq!(
        made.shown().1,
        1,
        "without the one between them it is nobody's: {:?}",
        made.shown()
    );
    let leaf = fs::read_to_string(made.dir.join(CERTIFICATE_FILE)).unwrap();
    made.write(CERTIFICATE_FILE, &(leaf + &made.issuer.pem()));
    let (text, wrong) = made.shown();
    assert_eq!(wrong, 0, "{text}");
    assert!(text.contains("between") && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn what_holds_nothing_of_this_is_an_error() {
    let made = Made::new("nothing");
    let why = |path: &Path| show(path).unwrap_err().message;
    assert!(why(&made.dir).contains("is no directory of credentials"));
    assert!(why(&made.dir.join("nowhere")).contains("cannot read"));
    made.write("notes", "nothing");
    assert!(why(&made.dir.join("notes")).contains("no certificate, no list"));
}
