//! Does the tree keep to its own rules? Each rule names file and line, and says what to do.
//!
//! Needs no server. What is against a rule today stands in a list beside it that only gets shorter.

#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the tree has lower case only"
)]

mod circles;
mod modules;
mod references;
mod rules;
mod tree;

use std::path::Path;

use tree::Tree;

fn none(tree_breaks: &[String]) {
    assert!(tree_breaks.is_empty(), "\n{}\n", tree_breaks.join("\n"));
}

fn here() -> Tree {
    Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
}

#[test]
fn no_files_of_different_folders_import_each_other_in_a_circle() {
    none(&circles::violations(&here(), circles::KNOWN, circles::INSIDE));
}

#[test]
fn no_file_is_too_long() {
    none(&rules::long_files(&here()));
}

#[test]
fn every_reference_to_a_document_resolves() {
    none(&references::violations(&here(), references::KNOWN));
}

#[test]
fn bounds_stand_in_their_limits() {
    none(&rules::stray_bounds(&here(), rules::KNOWN_BOUNDS));
}

#[test]
fn only_command_lines_print() {
    none(&rules::prints(&here(), rules::KNOWN_PRINTS));
}

#[test]
fn unsafe_code_of_the_engine_has_one_place() {
    none(&rules::unsafe_code(&here(), rules::KNOWN_UNSAFE));
}

#[test]
fn the_tests_of_each_source_file_can_be_found() {
    none(&rules::untested(&here()));
    none(&rules::unnamed_tests(&here()));
}
