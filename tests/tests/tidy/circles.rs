//! Files that import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::modules::{Edge, edges};
use super::tree::Tree;

/// Files that may still be in a circle. The list only gets shorter: a file of it that is in no circle
/// any more fails the test, too.
pub const KNOWN: &[&str] = &[];

/// Circles within one folder that are meant, and why. All files of the circle, in order of name.
pub const INSIDE: &[(&[&str], &str)] = &[
    (
        &["projector/src/cli/mod.rs", "projector/src/cli/status.rs"],
        "the command line runs its commands, and they share its arguments",
    ),
    (
        &[
            "benches/src/peers/etcd.rs",
            "benches/src/peers/mod.rs",
            "benches/src/peers/postgres.rs",
            "benches/src/peers/redis.rs",
        ],
        "each peer implements the trait that mod.rs runs",
    ),
    (
        &["benches/src/run/cases.rs", "benches/src/run/mod.rs"],
        "the runner's type is in mod.rs, its cases in a file of their own",
    ),
    (
        &["fuzz/src/entry.rs", "fuzz/src/frame.rs", "fuzz/src/main.rs"],
        "each target implements the trait that main.rs runs",
    ),
    (
        &["tests/src/cluster/net.rs", "tests/src/cluster/node.rs", "tests/src/cluster/snapshot.rs"],
        "a simulated node sends by the network that delivers to it, and starts from its snapshots",
    ),
    (
        &["tests/src/sim/disk.rs", "tests/src/sim/faults.rs", "tests/src/sim/media.rs"],
        "the simulated disk, its faults and what it holds are one model in three files",
    ),
    (
        &["net/src/client/tokio.rs", "net/src/client/tokio/link.rs"],
        "the client spawns links, and a link speaks of the client's commands",
    ),
    (
        &[
            "engine/src/ledger/ahead.rs",
            "engine/src/ledger/apply.rs",
            "engine/src/ledger/decide.rs",
            "engine/src/ledger/draft.rs",
            "engine/src/ledger/effects.rs",
            "engine/src/ledger/mod.rs",
            "engine/src/ledger/names.rs",
            "engine/src/ledger/stripes.rs",
            "engine/src/ledger/undo.rs",
        ],
        "the ledger's type is in mod.rs, each kind of its operations in a file of its own",
    ),
];

/// Files that use each other, directly or by way of others, with their uses among themselves.
#[derive(Debug, PartialEq, Eq)]
pub struct Circle {
    pub files: BTreeSet<String>,
    pub edges: Vec<Edge>,
}

impl Circle {
    pub fn spans_folders(&self, tree: &Tree) -> bool {
        let folders: BTreeSet<_> = self.files.iter().map(|file| folder(tree, file)).collect();
        folders.len() > 1
    }

    /// Each of its uses that leads from one folder to another; all if it stays in one.
    pub fn lines(&self, tree: &Tree) -> Vec<String> {
        let spans = self.spans_folders(tree);
        let counts = |edge: &&Edge| !spans || folder(tree, &edge.from) != folder(tree, &edge.to);
        let mut seen = BTreeSet::new();
        let first = |edge: &&Edge| seen.insert((edge.from.clone(), edge.to.clone()));
        let line = |edge: &Edge| format!("  {}:{} uses {}", edge.from, edge.line, edge.to);
        self.edges.iter().filter(counts).filter(first).map(line).collect()
    }
}

/// The folder that a file belongs to. A module in `x.rs` belongs to its folder `x/` if it has one.
fn folder(tree: &Tree, file: &str) -> String {
    let own = file.trim_end_matches(".rs");
    let inside = format!("{own}/");
    if tree.0.range(inside.clone()..).next().is_some_and(|(path, _)| path.starts_with(&inside)) {
        return own.to_owned();
    }
    file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()
}

/// The circles of all crates.
pub fn all(tree: &Tree) -> Vec<Circle> {
    let is_root = |path: &&str| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    let roots = tree.rust().map(|(path, _)| path).filter(is_root);
    let edges: BTreeSet<Edge> =
        roots.filter(|path| path.contains("/src/")).flat_map(|root| edges(tree, root)).collect();
    of(&edges)
}

/// The strongly connected parts of a graph that have more than one file.
fn of(edges: &BTreeSet<Edge>) -> Vec<Circle> {
    let mut uses = BTreeMap::<&str, BTreeSet<&str>>::new();
    for edge in edges {
        uses.entry(&edge.from).or_default().insert(&edge.to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        uses.keys().map(|file| (*file, reach(&uses, file))).collect();
    let mut circles = Vec::<Circle>::new();
    for (file, to) in &reached {
        if !to.contains(file) || circles.iter().any(|circle| circle.files.contains(*file)) {
            continue;
        }
        let back = |other: &&&str| reached.get(**other).is_some_and(|back| back.contains(file));
        let files: BTreeSet<String> = to.iter().filter(back).map(ToString::to_string).collect();
        let inside = |edge: &&Edge| files.contains(&edge.from) && files.contains(&edge.to);
        let edges = edges.iter().filter(inside).cloned().collect();
        circles.push(Circle { files, edges });
    }
    circles
}

/// All that a file uses, directly or by way of others.
fn reach<'a>(uses: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = uses.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(uses.get(file).into_iter().flatten());
        }
    }
    found
}

/// What is wrong with the circles of a tree, given those that are known and those that are meant.
pub fn violations(tree: &Tree, known: &[&str], inside: &[(&[&str], &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let circles = all(tree);
    for circle in &circles {
        let files: Vec<&str> = circle.files.iter().map(String::as_str).collect();
        if files.iter().all(|file| known.contains(file)) {
            continue;
        }
        let lines = circle.lines(tree).join("\n");
        if circle.spans_folders(tree) {
            wrong.push(format!(
                "files of different folders import each other in a circle; move what both sides \
                 need below them: {}\n{lines}",
                files.join(", ")
            ));
        } else if !inside.iter().any(|(meant, _)| *meant == files) {
            wrong.push(format!(
                "{} import each other in a circle; break it, or give the reason in INSIDE in \
                 circles.rs:\n{lines}",
                files.join(", ")
            ));
        }
    }
    for file in known {
        if !circles.iter().any(|circle| circle.files.contains(*file)) {
            wrong.push(format!("{file} is in no circle any more: take it off KNOWN in circles.rs"));
        }
    }
    for (meant, _) in inside {
        if !circles.iter().any(|circle| circle.files.iter().eq(meant.iter())) {
            let files = meant.join(", ");
            wrong.push(format!(
                "{files} are no circle any more: take them off INSIDE in circles.rs"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: (&str, &str) = ("a/src/lib.rs", "mod x;\nmod y;");

    #[test]
    fn a_circle_between_folders_is_told_with_its_lines() {
        let tree = Tree::of(&[
            ROOT,
            ("a/src/x/mod.rs", "mod one;\npub use one::One;\n"),
            ("a/src/x/one.rs", "//! Text.\nuse crate::y;\npub struct One(y::Two);\n"),
            ("a/src/y/mod.rs", "mod two;\npub use two::*;\n"),
            ("a/src/y/two.rs", "pub struct Two;\nfn f() {\n    { crate::x::One::new() }\n}\n"),
        ]);
        let wrong = violations(&tree, &[], &[]);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains("a/src/x/one.rs:3 uses a/src/y/two.rs"), "{}", wrong[0]);
        assert!(wrong[0].contains("a/src/y/two.rs:3 uses a/src/x/one.rs"), "{}", wrong[0]);

        let known = ["a/src/x/one.rs", "a/src/y/two.rs"];
        assert_eq!(violations(&tree, &known, &[]), Vec::<String>::new());
        assert_eq!(violations(&tree, &known[..1], &[]).len(), 1, "the list names all of it");
        let tree = Tree::of(&[ROOT]);
        assert_eq!(violations(&tree, &known, &[]).len(), 2, "what is mended leaves the list");
    }

    #[test]
    fn a_circle_in_a_folder_needs_a_reason() {
        let tree = Tree::of(&[
            ROOT,
            ("a/src/x.rs", "use crate::y::Y;\npub struct X;\n"),
            ("a/src/y.rs", "use super::x::{self, X as Other};\npub struct Y;\n"),
        ]);
        let wrong = violations(&tree, &[], &[]);
        assert!(wrong.len() == 1 && wrong[0].contains("a/src/y.rs:1 uses a/src/x.rs"), "{wrong:?}");
        let files: &[&str] = &["a/src/x.rs", "a/src/y.rs"];
        assert_eq!(violations(&tree, &[], &[(files, "twins")]), Vec::<String>::new());
        let wrong = violations(&Tree::of(&[ROOT]), &[], &[(files, "twins")]);
        assert!(wrong.len() == 1 && wrong[0].contains("no circle any more"), "{wrong:?}");
    }

    #[test]
    fn tests_declarations_and_facades_close_no_circle() {
        let tree = Tree::of(&[
            ROOT,
            ("a/src/x/mod.rs", "mod one;\npub use one::One;\npub struct Base;\n"),
            (
                "a/src/x/one.rs",
                "use super::Base;\nuse crate::y::Y;\npub struct One;\n\
                 #[cfg(test)]\nmod tests {\n    use crate::y::Z;\n}\n",
            ),
            (
                "a/src/y.rs",
                "pub struct Y;\n#[cfg(test)]\nuse crate::x::{One};\n\
                 impl Y {\n    #[cfg(test)]\n    fn f() { crate::x::One }\n}\n",
            ),
        ]);
        assert_eq!(violations(&tree, &[], &[]), Vec::<String>::new());
    }

    #[test]
    fn a_use_in_a_function_and_a_path_in_a_macro_count() {
        let tree = Tree::of(&[
            ROOT,
            ("a/src/x/mod.rs", "pub struct X;\nfn f() {\n    use crate::y::{Y};\n}\n"),
            ("a/src/y.rs", "pub struct Y;\nfn f() {\n    assert!(crate::x::X == 1);\n}\n"),
        ]);
        let wrong = violations(&tree, &[], &[]).concat();
        assert!(wrong.contains("a/src/x/mod.rs:3 uses a/src/y.rs"), "{wrong}");
        assert!(wrong.contains("a/src/y.rs:3 uses a/src/x/mod.rs"), "{wrong}");
    }
}
