//! The modules of a crate, and which file uses which other: `use` items and paths with `::` in them,
//! followed through re-exports to the file that defines the name.
//!
//! A `mod` declaration says where a module is, not that anything of it is used, and a re-export
//! hands a name on: neither counts as a use.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Item, ItemUse, UseTree, Visibility};

use super::tree::{Tree, is_mark, tokens};

/// Re-exports that are followed from one name; more would be a name that stands for itself.
const REEXPORTS_MAX: usize = 16;

/// One file uses another, here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: String,
    pub line: usize,
    pub to: String,
}

/// A path in the source, with the line that it stands in.
type Located = (Vec<String>, usize);

#[derive(Default)]
struct Module {
    file: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    aliases: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// What the module imports for itself.
    imports: Vec<Located>,
    /// What it hands on: a use only where it stands in the module's own code, too.
    reexports: Vec<(String, Located)>,
    paths: Vec<Located>,
    words: BTreeSet<String>,
}

/// What a path stands for.
enum Target {
    Module(usize),
    Item(usize),
}

struct Crate<'a> {
    tree: &'a Tree,
    modules: Vec<Module>,
}

/// Who uses whom within the crate whose root this file is.
pub fn edges(tree: &Tree, root: &str) -> BTreeSet<Edge> {
    let mut found = Crate { tree, modules: Vec::new() };
    let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
    found.add_file(root, folder, None);
    let mut edges = BTreeSet::new();
    for (at, module) in found.modules.iter().enumerate() {
        let used = module.reexports.iter().filter(|(name, _)| module.words.contains(name));
        let used = used.map(|(_, located)| located);
        for (path, line) in module.imports.iter().chain(used).chain(&module.paths) {
            let Some(Target::Item(to)) = found.resolve(at, path, 0) else { continue };
            let (from, to) = (module.file.clone(), found.modules[to].file.clone());
            if from != to {
                edges.insert(Edge { from, line: *line, to });
            }
        }
    }
    edges
}

impl Crate<'_> {
    /// Adds the module in a file; its own modules lie in `folder`.
    fn add_file(&mut self, path: &str, folder: &str, parent: Option<usize>) -> usize {
        let text = &self.tree.0[path];
        let parsed: syn::File = syn::parse2(tokens(path, text))
            .unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
        self.add(path, folder, parent, parsed.items)
    }

    fn add(&mut self, path: &str, folder: &str, parent: Option<usize>, items: Vec<Item>) -> usize {
        let at = self.modules.len();
        self.modules.push(Module { file: path.to_owned(), parent, ..Module::default() });
        for item in items {
            if let Some(name) = name_of(&item) {
                self.modules[at].items.insert(name);
            }
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    let below = format!("{folder}/{name}");
                    let child = match module.content {
                        Some((_, items)) => Some(self.add(path, &below, Some(at), items)),
                        None => [format!("{below}.rs"), format!("{below}/mod.rs")]
                            .iter()
                            .find(|file| self.tree.0.contains_key(*file))
                            .map(|file| self.add_file(file, &below, Some(at))),
                    };
                    if let Some(child) = child {
                        self.modules[at].children.insert(name, child);
                    }
                }
                Item::Use(item) => self.add_use(at, &item),
                other => self.add_paths(at, other.to_token_stream()),
            }
        }
        at
    }

    fn add_use(&mut self, at: usize, item: &ItemUse) {
        let module = &mut self.modules[at];
        let reexports = !matches!(item.vis, Visibility::Inherited);
        let mut names = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut names);
        for (path, name, line) in names {
            let Some(name) = name else {
                module.globs.push(path.clone());
                let mut inside = path;
                inside.push("*".to_owned());
                if !reexports {
                    module.imports.push((inside, line));
                }
                continue;
            };
            module.aliases.insert(name.clone(), path.clone());
            if reexports {
                module.reexports.push((name, (path, line)));
            } else {
                module.imports.push((path, line));
            }
        }
    }

    /// Notes each path with `::` in code, and what `use` items inside functions name.
    fn add_paths(&mut self, at: usize, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut next = 0;
        while next < tokens.len() {
            match &tokens[next] {
                TokenTree::Group(group) => self.add_paths(at, group.stream()),
                TokenTree::Ident(word) if word == "use" => {
                    let end = tokens[next..].iter().position(|token| is_mark(Some(token), ';'));
                    let item = end.map(|end| tokens[next..=next + end].iter().cloned().collect());
                    if let Some(Ok(item)) = item.map(syn::parse2::<ItemUse>) {
                        self.add_use(at, &item);
                        next += end.unwrap_or(0);
                    }
                }
                TokenTree::Ident(word) => {
                    let line = word.span().start().line;
                    let mut path = vec![word.to_string()];
                    while is_mark(tokens.get(next + 1), ':') && is_mark(tokens.get(next + 2), ':') {
                        let Some(TokenTree::Ident(word)) = tokens.get(next + 3) else { break };
                        path.push(word.to_string());
                        next += 3;
                    }
                    self.modules[at].words.insert(path[0].clone());
                    if path.len() > 1 {
                        self.modules[at].paths.push((path, line));
                    }
                }
                _ => {}
            }
            next += 1;
        }
    }

    fn resolve(&self, at: usize, path: &[String], depth: usize) -> Option<Target> {
        if depth > REEXPORTS_MAX {
            return None;
        }
        let mut target = match path[0].as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(at),
            "super" => Target::Module(self.modules[at].parent?),
            name => self.look_up(at, name, depth)?,
        };
        for name in &path[1..] {
            let Target::Module(module) = target else { break };
            target = match name.as_str() {
                "super" => Target::Module(self.modules[module].parent?),
                "self" => Target::Module(module),
                // A name that a macro makes, or a glob import: the module's file has it.
                name => self.look_up(module, name, depth).unwrap_or(Target::Item(module)),
            };
        }
        Some(target)
    }

    fn look_up(&self, at: usize, name: &str, depth: usize) -> Option<Target> {
        let module = &self.modules[at];
        if let Some(child) = module.children.get(name) {
            return Some(Target::Module(*child));
        }
        if module.items.contains(name) {
            return Some(Target::Item(at));
        }
        if let Some(path) = module.aliases.get(name) {
            return self.resolve(at, path, depth + 1);
        }
        module.globs.iter().find_map(|path| match self.resolve(at, path, depth + 1)? {
            Target::Module(other) if other != at => self.look_up(other, name, depth + 1),
            _ => None,
        })
    }
}

/// The names that a `use` brings: path, name (none for a glob) and line of each.
fn flatten(
    tree: &UseTree,
    path: &mut Vec<String>,
    names: &mut Vec<(Vec<String>, Option<String>, usize)>,
) {
    let with = |path: &[String], last: &syn::Ident| {
        let mut whole = path.to_vec();
        if last != "self" || path.is_empty() {
            whole.push(last.to_string());
        }
        whole
    };
    match tree {
        UseTree::Path(one) => {
            path.push(one.ident.to_string());
            flatten(&one.tree, path, names);
            path.pop();
        }
        UseTree::Name(name) => {
            let line = name.ident.span().start().line;
            let whole = with(path, &name.ident);
            let last = whole.last().cloned();
            names.push((whole, last, line));
        }
        UseTree::Rename(name) => {
            let line = name.ident.span().start().line;
            names.push((with(path, &name.ident), Some(name.rename.to_string()), line));
        }
        UseTree::Glob(glob) => {
            names.push((path.clone(), None, glob.star_token.spans[0].start().line));
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, path, names)),
    }
}

fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::TraitAlias(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}
