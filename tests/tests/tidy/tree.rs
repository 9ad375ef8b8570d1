//! The files that the rules look at, and their tokens.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Folders of a checkout that hold no source of ours.
const OTHERS: [&str; 3] = ["target", "bench-results", "node_modules"];
/// Folders of ours that are no package of Rust.
const WITHOUT_RUST: [&str; 4] = ["docs", "node", "packaging", "scripts"];
/// Endings of the names of files that are read.
const READ: [&str; 6] = [".rs", ".md", ".sh", ".sql", ".svg", ".toml"];

/// Text by path; paths are relative to the workspace.
#[derive(Debug, Default)]
pub struct Tree(pub BTreeMap<String, String>);

impl Tree {
    /// All source files and documents below `root`.
    pub fn read(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.read_folder(root, "");
        tree
    }

    fn read_folder(&mut self, folder: &Path, path: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().expect("names in the tree are text");
            if name.starts_with('.') || OTHERS.contains(&name.as_str()) {
                continue;
            }
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            if entry.file_type().unwrap().is_dir() {
                // Data directories and clusters that somebody tries are no source either.
                if path.contains('/')
                    || entry.path().join("Cargo.toml").exists()
                    || WITHOUT_RUST.contains(&name.as_str())
                {
                    self.read_folder(&entry.path(), &path);
                }
            } else if READ.iter().any(|ending| name.ends_with(ending)) {
                self.0.insert(path, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }

    /// A tree that a test of a rule makes up.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect())
    }

    /// Path and text of each Rust file.
    pub fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        all.filter(|(path, _)| path.ends_with(".rs"))
    }
}

/// Whether a file is compiled into no library or program: tests, benchmarks, examples, fuzzers,
/// build scripts.
pub fn is_test_or_tool(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let folders = ["tests", "benches", "examples", "fuzz"];
    path.split('/').any(|part| folders.contains(&part)) || ["tests.rs", "build.rs"].contains(&name)
}

/// The tokens of a file; what is under `#[cfg(test)]` is left out.
pub fn tokens(path: &str, text: &str) -> TokenStream {
    let stream = text.parse().unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
    without_tests(stream)
}

/// Removes each item under `#[cfg(test)]`: the attribute, and all up to a semicolon, or to a block
/// if the item can end with one.
fn without_tests(stream: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_hash = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#');
        if is_hash && tokens.peek().is_some_and(is_cfg_test) {
            // Other attributes of the item stand before it, too.
            while let [.., hash, TokenTree::Group(_)] = kept.as_slice()
                && is_mark(Some(hash), '#')
            {
                kept.truncate(kept.len() - 2);
            }
            let mut last = String::new();
            let mut needs_semicolon = false;
            for token in tokens.by_ref() {
                let word = if let TokenTree::Ident(word) = &token {
                    word.to_string()
                } else {
                    String::new()
                };
                needs_semicolon |= ["use", "static", "type"].contains(&word.as_str());
                needs_semicolon |=
                    last == "const" && !["fn", "unsafe", "async"].contains(&word.as_str());
                let is_block = matches!(&token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                if is_mark(Some(&token), ';') || (is_block && !needs_semicolon) {
                    break;
                }
                last = word;
            }
            continue;
        }
        kept.push(match token {
            TokenTree::Group(group) => {
                let mut inner =
                    proc_macro2::Group::new(group.delimiter(), without_tests(group.stream()));
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            other => other,
        });
    }
    kept.into_iter().collect()
}

/// Whether this is `[cfg(test)]`, alone or as one of several conditions that must all hold.
fn is_cfg_test(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let text: String = group.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// Each token with its line, groups opened, and the tokens that follow it in the same group.
pub fn each_token(stream: TokenStream, visit: &mut impl FnMut(&[TokenTree], usize)) {
    let tokens: Vec<TokenTree> = stream.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        visit(&tokens[at..], token.span().start().line);
        if let TokenTree::Group(group) = token {
            each_token(group.stream(), visit);
        }
    }
}

/// Whether a token is this punctuation mark.
pub fn is_mark(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == mark)
}
