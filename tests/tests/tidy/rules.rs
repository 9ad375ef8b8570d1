//! The rules about one file at a time: sizes, bounds, prints, `unsafe`, and where its tests are.

use proc_macro2::TokenTree;

use super::tree::{Tree, each_token, is_mark, is_test_or_tool, tokens};

/// Lines of a file, tests included. At half of it, look again.
pub const LINES_MAX: usize = 800;

/// A limits.rs whose first line says one of these has all bounds of its folder.
const CLAIMS: [&str; 3] = ["Every bound", "Every constant", "All bounds"];
/// A constant with such a name bounds what others can ask for, how much is held, or for how long. A
/// size (`_BYTES`) or a place (`_AT`) describes a layout and bounds nothing, and neither does a
/// least (`_MIN`) of something that only works better when it is larger.
const BOUNDS: [&str; 6] = ["_MAX", "_WITHIN", "_EVERY", "_AFTER", "_TIMEOUT", "PATIENCE"];
/// Bounds that may still stand elsewhere: a folder or a file, and a name. The list only gets shorter.
pub const KNOWN_BOUNDS: &[(&str, &str)] = &[];

/// Macros that write to the streams of a process, which belong to its command line.
const PRINTS: [&str; 5] = ["println", "print", "eprintln", "eprint", "dbg"];
/// Files that still print. The list only gets shorter.
pub const KNOWN_PRINTS: &[&str] = &[];

/// The only file of the engine that may say `unsafe`.
const UNSAFE: &str = "engine/src/os.rs";
/// Files of the engine that still say it. The list only gets shorter.
pub const KNOWN_UNSAFE: &[&str] = &[];

/// Files that are too long to be read.
pub fn long_files(tree: &Tree) -> Vec<String> {
    let lines = tree.rust().map(|(path, text)| (path, text.lines().count()));
    let long = lines.filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(path, lines)| format!("{path}:{lines}: more than {LINES_MAX} lines; split it"))
        .collect()
}

/// Bounds that stand outside the limits.rs that says that it has all of them. It speaks for its
/// folder and those below, down to the next limits.rs.
pub fn stray_bounds(tree: &Tree, known: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = vec![false; known.len()];
    for (path, text) in tree.rust() {
        if is_test_or_tool(path) || path.ends_with("/limits.rs") || !path.contains("/src/") {
            continue;
        }
        let Some((limits, head)) = limits_of(tree, path) else { continue };
        if !CLAIMS.iter().any(|claim| head.contains(claim)) {
            continue;
        }
        each_token(tokens(path, text), &mut |tokens, line| {
            let Some(name) = constant(tokens) else { return };
            if !BOUNDS.iter().any(|end| name.ends_with(end)) {
                return;
            }
            let allowed = known.iter().position(|(within, bound)| {
                *bound == name && (path == *within || path.starts_with(&format!("{within}/")))
            });
            match allowed {
                Some(at) => used[at] = true,
                None => {
                    wrong.push(format!("{path}:{line}: {name} is a bound: move it to {limits}"));
                }
            }
        });
    }
    let stale = known.iter().zip(used).filter(|(_, used)| !used);
    wrong.extend(stale.map(|((within, name), _)| {
        format!("{within}: {name} is in place: take it off KNOWN_BOUNDS in rules.rs")
    }));
    wrong
}

/// The nearest limits.rs at or above a file, and its first line.
fn limits_of<'a>(tree: &'a Tree, path: &str) -> Option<(String, &'a str)> {
    let mut folder = path;
    while let Some((above, _)) = folder.rsplit_once('/') {
        folder = above;
        let limits = format!("{folder}/limits.rs");
        if let Some(text) = tree.0.get(&limits) {
            return Some((limits, text.lines().next().unwrap_or("")));
        }
    }
    None
}

/// The name of the constant whose declaration begins here.
fn constant(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [TokenTree::Ident(word), TokenTree::Ident(name), colon, ..]
            if word == "const" && is_mark(Some(colon), ':') =>
        {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// Prints that panic when a stream can't be written: a full disk, a pipe without a reader.
pub fn prints(tree: &Tree, known: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = vec![false; known.len()];
    for (path, text) in tree.rust() {
        if is_test_or_tool(path) {
            continue;
        }
        each_token(tokens(path, text), &mut |tokens, line| {
            if let TokenTree::Ident(word) = &tokens[0]
                && PRINTS.iter().any(|print| word == print)
                && is_mark(tokens.get(1), '!')
            {
                let what = "panics when the stream can't be written: take say! or say_aside! in a cli \
                            folder; elsewhere log it, or return the text";
                match known.iter().position(|known| *known == path) {
                    Some(at) => used[at] = true,
                    None => wrong.push(format!("{path}:{line}: {word}! {what}")),
                }
            }
        });
    }
    wrong.extend(stale(known, &used, "prints nothing", "KNOWN_PRINTS"));
    wrong
}

/// `unsafe` in the engine outside its one place.
pub fn unsafe_code(tree: &Tree, known: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used = vec![false; known.len()];
    for (path, text) in tree.rust() {
        if !path.starts_with("engine/src/") || path == UNSAFE {
            continue;
        }
        each_token(tokens(path, text), &mut |tokens, line| {
            if matches!(&tokens[0], TokenTree::Ident(word) if word == "unsafe") {
                match known.iter().position(|known| *known == path) {
                    Some(at) => used[at] = true,
                    None => wrong.push(format!("{path}:{line}: unsafe: move it to {UNSAFE}")),
                }
            }
        });
    }
    wrong.extend(stale(known, &used, "is safe", "KNOWN_UNSAFE"));
    wrong
}

/// Files that need no exception any more.
fn stale(known: &[&str], used: &[bool], what: &str, list: &str) -> Vec<String> {
    let unused = known.iter().zip(used).filter(|(_, used)| !**used);
    unused.map(|(path, _)| format!("{path} {what}: take it off {list} in rules.rs")).collect()
}

/// The document that says which tests answer for which source.
pub const TABLE: &str = "tests/README.md";

/// Source files with no tests beside them that the table does not name, and rows of the table that
/// name nothing. A row names files or folders in its first cell and modules of tests in its second,
/// all in backticks.
pub fn untested(tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    let table = tree.0.get(TABLE).map_or("", String::as_str);
    let mut areas = Vec::new();
    for (at, line) in table.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
        if !line.starts_with("| `") || cells.len() < 2 {
            continue;
        }
        let is_harness = cells[0].contains("`tests/");
        for area in quoted(cells[0]).filter(|area| area.contains('/')) {
            if !tree.0.keys().any(|path| is_in(path, area)) {
                wrong.push(format!("{TABLE}:{}: there is no {area}", at + 1));
            }
            if !is_harness {
                areas.push(area);
            }
        }
        if is_harness || !cells[0].contains('/') {
            continue;
        }
        for test in quoted(cells[1]).filter(|test| !test.contains(' ')) {
            let paths =
                [format!("tests/tests/{test}.rs"), format!("tests/tests/{test}"), test.to_owned()];
            let found = |path: &String| paths.iter().any(|test| is_in(path, test));
            if !tree.0.keys().any(found) {
                wrong.push(format!("{TABLE}:{}: there is no test {test}", at + 1));
            }
        }
    }
    for (path, text) in tree.rust() {
        let is_source = path.contains("/src/") && !is_test_or_tool(path);
        let is_ours = !["tests/", "benches/", "fuzz/"].iter().any(|start| path.starts_with(start));
        if !is_source || !is_ours || !has_code(path, text) || has_tests(tree, path, text) {
            continue;
        }
        if !areas.iter().any(|area| is_in(path, area)) {
            wrong.push(format!(
                "{path}:1: no tests beside it; add some, or name those that answer for it in {TABLE}"
            ));
        }
    }
    wrong
}

/// The module of `tests/tests` that the table has no line for.
pub fn unnamed_tests(tree: &Tree) -> Vec<String> {
    let table = tree.0.get(TABLE).map_or("", String::as_str);
    let names = tree.rust().filter_map(|(path, _)| {
        let name = path.strip_prefix("tests/tests/")?.trim_end_matches("/mod.rs");
        let name = name.trim_end_matches(".rs");
        (!name.contains('/') && name != "main").then_some((path, name))
    });
    let missing = names
        .filter(|(_, name)| !table.lines().any(|line| line.starts_with(&format!("| `{name}` |"))));
    missing.map(|(path, _)| format!("{path}:1: {TABLE} has no line with its question")).collect()
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn is_in(path: &str, area: &str) -> bool {
    path == area
        || path.strip_prefix(area.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

fn has_tests(tree: &Tree, path: &str, text: &str) -> bool {
    let own = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    text.contains("#[cfg(test)]")
        || tree.0.get(&format!("{folder}.rs")).is_some_and(|above| above.contains("#[cfg(test)]"))
        || tree.0.contains_key(&format!("{folder}/tests.rs"))
        || tree.0.contains_key(&format!("{own}/tests.rs"))
        || tree.0.keys().any(|file| file.starts_with(&format!("{own}/tests/")))
}

/// Whether a file has any function; one that only declares has nothing to test.
fn has_code(path: &str, text: &str) -> bool {
    let mut found = false;
    each_token(tokens(path, text), &mut |tokens, _| {
        found |= matches!(&tokens[0], TokenTree::Ident(word) if word == "fn");
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_past_the_limit_is_told() {
        let (whole, more) = ("\n".repeat(LINES_MAX), "\n".repeat(LINES_MAX + 1));
        let tree = Tree::of(&[("a/src/x.rs", &whole), ("a/tests/y.rs", &more)]);
        assert_eq!(long_files(&tree), ["a/tests/y.rs:801: more than 800 lines; split it"]);
    }

    #[test]
    fn a_bound_outside_its_limits_is_told_and_a_size_is_none() {
        let source = "pub const ROOM_MAX: usize = 1;\nconst HEAD_BYTES: usize = 2;\n\
                      impl X {\n    pub(crate) const TELL_EVERY: u64 = 3;\n}\n\
                      #[cfg(test)]\nmod tests { const X_MAX: u8 = 0; }\n";
        let files = |head| Tree::of(&[("a/src/limits.rs", head), ("a/src/x/y.rs", source)]);
        let claims = files("//! Every bound of a.\npub const A_MAX: u8 = 0;");
        let wrong = stray_bounds(&claims, &[]);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert_eq!(wrong[0], "a/src/x/y.rs:1: ROOM_MAX is a bound: move it to a/src/limits.rs");
        assert!(wrong[1].starts_with("a/src/x/y.rs:4: TELL_EVERY"), "{}", wrong[1]);
        assert_eq!(stray_bounds(&files("//! Some bounds."), &[]), Vec::<String>::new());

        let known = [("a/src", "ROOM_MAX"), ("a/src/x/y.rs", "TELL_EVERY")];
        assert_eq!(stray_bounds(&claims, &known), Vec::<String>::new());
        let wrong = stray_bounds(&Tree::of(&[]), &known);
        assert!(wrong.len() == 2 && wrong[0].contains("take it off"), "{wrong:?}");
    }

    #[test]
    fn a_print_that_can_panic_is_told() {
        let source = "fn f() {\n    eprintln!(\"x\");\n}\n#[cfg(test)]\nfn g() { dbg!(1) }\n\
                      // println!(\"no\")\nconst TEXT: &str = \"print!()\";\n";
        let tree = Tree::of(&[
            ("a/src/x.rs", source),
            ("a/src/cli/x.rs", source),
            ("a/src/cli.rs", source),
            ("a/build.rs", source),
            ("a/examples/x.rs", source),
            ("benches/src/x.rs", source),
        ]);
        let wrong = prints(&tree, &[]);
        let places: Vec<_> =
            wrong.iter().filter_map(|one| one.split(" eprintln!").next()).collect();
        assert_eq!(places, ["a/src/cli.rs:2:", "a/src/cli/x.rs:2:", "a/src/x.rs:2:"]);
    }

    #[test]
    fn unsafe_outside_its_place_is_told() {
        let source = "// unsafe\nfn f() {\n    unsafe { g() }\n}\n";
        let tree = Tree::of(&[
            ("engine/src/os.rs", source),
            ("engine/src/x.rs", source),
            ("replication/src/x.rs", source),
        ]);
        assert_eq!(
            unsafe_code(&tree, &[]),
            ["engine/src/x.rs:3: unsafe: move it to engine/src/os.rs"]
        );
        assert_eq!(unsafe_code(&tree, &["engine/src/x.rs"]), Vec::<String>::new());
        assert_eq!(unsafe_code(&Tree::of(&[]), &["engine/src/x.rs"]).len(), 1);
    }

    #[test]
    fn a_source_without_tests_is_told_unless_the_table_names_them() {
        let code = "fn f() {}\n";
        let tested = "fn f() {}\n#[cfg(test)]\nmod tests {}\n";
        let files = |table| {
            Tree::of(&[
                (TABLE, table),
                ("a/src/bare.rs", code),
                ("a/src/beside.rs", tested),
                ("a/src/folder/mod.rs", code),
                ("a/src/folder/tests.rs", code),
                ("a/src/only.rs", "pub struct X;\n"),
                ("a/src/beside/below.rs", code),
                ("tests/tests/kill.rs", code),
            ])
        };
        let wrong = untested(&files(""));
        assert!(wrong.len() == 1 && wrong[0].starts_with("a/src/bare.rs:1:"), "{wrong:?}");
        let table = "| `kill` | question |\n| `a/src/bare.rs` | `kill` |\n";
        assert_eq!(untested(&files(table)), Vec::<String>::new());
        let wrong =
            untested(&files("| `a/src/` | `kill`, `gone` |\n| `a/src/none.rs` | `kill` |\n"));
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert_eq!(unnamed_tests(&files("")).len(), 1);
        assert_eq!(unnamed_tests(&files(table)), Vec::<String>::new());
    }
}
