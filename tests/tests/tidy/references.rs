//! References to documents: "X.md, section N" anywhere, and links in Markdown.

use std::collections::BTreeMap;

use super::tree::Tree;

/// Marks at the start of a line that are no part of a comment's text; longer ones first.
const MARKS: [&str; 5] = ["///", "//!", "//", "#", "--"];

/// Files with references that do not resolve yet. The list only gets shorter.
pub const KNOWN: &[&str] = &[];

/// What does not resolve, in all files but those that are known to have such references.
pub fn violations(tree: &Tree, known: &[&str]) -> Vec<String> {
    let (mut wrong, mut used) = (unresolved(tree), vec![false; known.len()]);
    wrong.retain(|wrong| {
        let of = |file: &&str| wrong.starts_with(&format!("{file}:"));
        let allowed = known.iter().position(of);
        allowed.inspect(|at| used[*at] = true).is_none()
    });
    let stale = known.iter().zip(used).filter(|(_, used)| !used);
    wrong.extend(stale.map(|(file, _)| {
        format!("{file}: all references resolve: take it off KNOWN in references.rs")
    }));
    wrong
}

fn unresolved(tree: &Tree) -> Vec<String> {
    let documents: BTreeMap<&str, Document> = tree
        .0
        .iter()
        .filter(|(path, _)| path.ends_with(".md"))
        .map(|(path, text)| (path.as_str(), Document::of(text)))
        .collect();
    let mut wrong = Vec::new();
    for (path, text) in &tree.0 {
        if path.starts_with("tests/tests/tidy") {
            continue; // what the unit tests plant
        }
        sections(path, text, &documents, &mut wrong);
        if path.ends_with(".md") {
            links(path, text, tree, &documents, &mut wrong);
        }
    }
    wrong
}

/// The headings of a document: as anchors, and the numbers that they begin with.
struct Document {
    anchors: Vec<String>,
    numbers: Vec<String>,
}

impl Document {
    fn of(text: &str) -> Self {
        let headings = outside_code(text).filter(|(_, line)| line.starts_with('#'));
        let titles: Vec<&str> =
            headings.map(|(_, line)| line.trim_start_matches('#').trim()).collect();
        let number = |title: &&str| {
            let number = title.split(' ').next().unwrap_or("").trim_end_matches('.');
            number.starts_with(|c: char| c.is_ascii_digit()).then(|| number.to_owned())
        };
        Self {
            anchors: titles.iter().map(|title| anchor(title)).collect(),
            numbers: titles.iter().filter_map(number).collect(),
        }
    }
}

/// A heading's anchor as GitHub makes it.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines of a document that are not in a block of code, with their numbers.
fn outside_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!code && !fence).then_some((at + 1, line))
    })
}

/// The document of this name that a file means: the one in the nearest folder above, or the only one.
fn find<'a>(
    from: &str,
    name: &str,
    documents: &'a BTreeMap<&str, Document>,
) -> Option<&'a Document> {
    let mut folder = from;
    while let Some((above, _)) = folder.rsplit_once('/') {
        folder = above;
        if let Some(found) = documents.get(format!("{folder}/{name}").as_str()) {
            return Some(found);
        }
    }
    let named = |path: &&str| path.rsplit('/').next() == Some(name);
    documents.get(name).or_else(|| documents.iter().find(|(path, _)| named(path)).map(|(_, d)| d))
}

/// Checks each name of a document, and each "section N" behind one. In a document, a section without
/// a name before it is its own.
fn sections(path: &str, text: &str, documents: &BTreeMap<&str, Document>, wrong: &mut Vec<String>) {
    let (text, starts) = flowing(text);
    let line = |at: usize| starts.partition_point(|start| *start <= at);
    for (end, _) in text.match_indices(".md") {
        let name = name_before(&text[..end + 3]);
        // Documents have names in capitals; other files with this ending are examples.
        let is_document = name.len() > 3 && !name[..name.len() - 3].contains(char::is_lowercase);
        if is_document && find(path, name, documents).is_none() {
            wrong.push(format!("{path}:{}: there is no {name}; name one that is", line(end)));
        }
    }
    for (at, _) in text.match_indices("section") {
        let numbers = numbers(&text[at..]);
        let before = text[..at].trim_end_matches(['`', ')', ']', ',', ' ']);
        let name = name_before(before);
        let is_capitals = name.len() > 3 && name.chars().all(|c| c.is_ascii_uppercase());
        if numbers.is_empty() {
            continue;
        }
        let (name, document) = if name.ends_with(".md") {
            (name, find(path, name, documents))
        } else if is_capitals && before.len() + 2 >= at {
            wrong.push(format!("{path}:{}: {name} is no document; say {name}.md", line(at)));
            continue;
        } else {
            (path, documents.get(path))
        };
        let Some(document) = document else { continue };
        for number in numbers.iter().filter(|number| !document.numbers.contains(number)) {
            let what = format!("{name} has no section {number}; look for where it is now");
            wrong.push(format!("{path}:{}: {what}", line(at)));
        }
    }
}

/// The text of a file in one line without the marks of comments, and where each line begins in it.
fn flowing(text: &str) -> (String, Vec<usize>) {
    let (mut flow, mut starts) = (String::new(), Vec::new());
    for line in text.lines() {
        starts.push(flow.len());
        let line = line.trim();
        let bare = MARKS.iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
        flow.push_str(bare.trim_start());
        flow.push(' ');
    }
    (flow, starts)
}

/// The file name that a text ends with.
fn name_before(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    text.rfind(|c| !is_part(c)).map_or(text, |before| &text[before + 1..])
}

/// The numbers in "section N" or "sections N, N and N" or "sections N to N".
fn numbers(text: &str) -> Vec<String> {
    let list = text.trim_start_matches("section");
    let Some(list) = list.strip_prefix("s ").or_else(|| list.strip_prefix(' ')) else {
        return Vec::new();
    };
    let mut numbers = Vec::new();
    for word in list.split(' ').filter(|word| !["and", "to"].contains(word)) {
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        let rest = word.trim_start_matches(is_part);
        let number = word[..word.len() - rest.len()].trim_end_matches('.');
        if number.is_empty() {
            break;
        }
        numbers.push(number.to_owned());
        if !rest.is_empty() && rest != "," {
            break;
        }
    }
    numbers
}

/// Checks each link of a document to a file or to a heading.
fn links(
    path: &str,
    text: &str,
    tree: &Tree,
    documents: &BTreeMap<&str, Document>,
    wrong: &mut Vec<String>,
) {
    for (number, line) in outside_code(text) {
        for (at, _) in line.match_indices("](") {
            let Some((target, _)) = line[at + 2..].split_once(')') else { continue };
            if target.contains("://") {
                continue;
            }
            let (file, heading) = match target.split_once('#') {
                Some((file, heading)) => (file, Some(heading)),
                None => (target, None),
            };
            let whole = if file.is_empty() { path.to_owned() } else { joined(path, file) };
            let inside = format!("{whole}/");
            let exists = tree.0.keys().any(|path| *path == whole || path.starts_with(&inside));
            if !exists {
                wrong.push(format!("{path}:{number}: the link {target} leads to no file"));
            } else if let (Some(heading), Some(document)) = (heading, documents.get(whole.as_str()))
                && !document.anchors.iter().any(|anchor| anchor == heading)
            {
                wrong.push(format!("{path}:{number}: {whole} has no heading for #{heading}"));
            }
        }
    }
}

/// A path relative to the folder of `from`, from the root.
fn joined(from: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: (&str, &str) = ("a/FORMAT.md", "# Format\n## 1. Blocks\n### 1.2 Small ones\n");

    fn wrong_in(text: &str) -> Vec<String> {
        violations(&Tree::of(&[FORMAT, ("a/src/x.rs", text)]), &[])
    }

    #[test]
    fn a_section_that_is_not_there_is_told_with_its_line() {
        for right in [
            "// FORMAT.md, section 1.",
            "/// See `FORMAT.md` section 1.2: so.",
            "//! FORMAT.md, sections 1 and 1.2.",
            "//! The layout is that of FORMAT.md,\n//! section 1.",
            "// FORMAT.md says so.",
            "| FORMAT.md, section 1; 0 without |",
            "// [FORMAT.md](a/FORMAT.md), sections 1 to 1.2 and 1",
            "// Section 3 says so.",
        ] {
            assert_eq!(wrong_in(right), Vec::<String>::new(), "{right}");
        }
        for (text, said) in [
            ("\n// FORMAT.md, section 3.", "a/src/x.rs:2: FORMAT.md has no section 3"),
            ("//! (FORMAT.md,\n//! section 1.3)", "a/src/x.rs:2: FORMAT.md has no section 1.3"),
            ("// FORMAT.md, sections 1 and 4", "a/src/x.rs:1: FORMAT.md has no section 4"),
            ("// see DESIGN section 1", "a/src/x.rs:1: DESIGN is no document; say DESIGN.md"),
            ("// LAYOUT.md says so.", "a/src/x.rs:1: there is no LAYOUT.md"),
        ] {
            let wrong = wrong_in(text);
            assert!(wrong.len() == 1 && wrong[0].starts_with(said), "{text}: {wrong:?}");
        }
        let own = Tree::of(&[("B.md", "# B\n## 1. One\nAs section 1 and\nsection 2 say.\n")]);
        assert_eq!(
            violations(&own, &[]),
            ["B.md:4: B.md has no section 2; look for where it is now"]
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told_with_its_line() {
        let text = "# Top\n[a](a/FORMAT.md) [b](a/FORMAT.md#12-small-ones) [c](#top) [d](a)\n\
                    [web](https://example.com/#x)\n```\n[code](no)\n```\n\
                    [e](b/FORMAT.md)\n[f](a/FORMAT.md#2-large-ones)\n[g](#bottom)\n";
        let wrong = violations(&Tree::of(&[FORMAT, ("README.md", text)]), &[]);
        let lines: Vec<&str> = wrong.iter().map(|wrong| &wrong[..12]).collect();
        assert_eq!(lines, ["README.md:7:", "README.md:8:", "README.md:9:"], "{wrong:?}");
    }
}
