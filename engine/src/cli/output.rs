//! Rows for people and for programs: aligned text, JSON lines, or CSV.

use std::io::{self, BufWriter, Stdout, Write};

use walengine_net::cli;
use walengine_net::text::{json_escaped, printable};

use super::colour;
use crate::fatal::Fatal;

/// The program, in its messages.
pub const NAME: &str = "walengine";

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns with a heading.
    #[default]
    Text,
    /// One JSON object per line; values are strings, because ids and amounts have 128 bits.
    Json,
    /// Comma-separated with a header.
    Csv,
}

/// Prints rows to standard output one by one.
pub struct Output {
    columns: Vec<(String, usize)>,
    sink: Sink,
    /// Of text, on a terminal that takes them.
    has_colours: bool,
}

enum Sink {
    Text(BufWriter<Stdout>),
    Json(BufWriter<Stdout>),
    Csv(Box<csv::Writer<Stdout>>),
}

impl Output {
    /// Prints the heading. A column is its name and its width in text, 0 for the last.
    pub fn new(format: Format, columns: &[(&str, usize)]) -> Result<Self, Fatal> {
        let columns: Vec<_> =
            columns.iter().map(|(name, width)| ((*name).to_owned(), *width)).collect();
        let stdout = io::stdout();
        let sink = match format {
            Format::Text => Sink::Text(BufWriter::new(stdout)),
            Format::Json => Sink::Json(BufWriter::new(stdout)),
            Format::Csv => Sink::Csv(Box::new(csv::Writer::from_writer(stdout))),
        };
        let names: Vec<_> = columns.iter().map(|(name, _)| name.clone()).collect();
        let mut output = Self { columns, sink, has_colours: false };
        if format != Format::Json {
            output.row(&names)?;
        }
        output.has_colours = format == Format::Text && colour::is_wanted();
        Ok(output)
    }

    /// Prints one row with a value for each column.
    pub fn row(&mut self, values: &[String]) -> Result<(), Fatal> {
        let (columns, has_colours) = (&*self.columns, self.has_colours);
        let written = match &mut self.sink {
            Sink::Text(out) => out.write_all(text_line(columns, values, has_colours).as_bytes()),
            Sink::Json(out) => {
                let object: serde_json::Map<String, serde_json::Value> = columns
                    .iter()
                    .zip(values)
                    .map(|((name, _), value)| (name.clone(), value.as_str().into()))
                    .collect();
                let object = serde_json::Value::Object(object).to_string();
                writeln!(out, "{}", json_escaped(&object))
            }
            Sink::Csv(out) => out
                .write_record(values.iter().map(|value| printable(value).into_owned()))
                .map_err(io_error),
        };
        told(written)
    }

    /// Flushes standard output.
    pub fn flush(&mut self) -> Result<(), Fatal> {
        told(match &mut self.sink {
            Sink::Text(out) | Sink::Json(out) => out.flush(),
            Sink::Csv(out) => out.flush(),
        })
    }
}

/// Prints a whole table at once, with columns as wide as needed.
pub fn write_table(heading: &[&str], rows: &[Vec<String>]) -> Result<(), Fatal> {
    let mut out = io::stdout().lock();
    told(out.write_all(table_text(heading, rows).as_bytes()).and_then(|()| out.flush()))
}

/// The lines of a table with columns as wide as needed.
pub fn table_text(heading: &[&str], rows: &[Vec<String>]) -> String {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        cells.chain(heading.get(column).copied()).map(|cell| cell.chars().count()).max()
    };
    let columns: Vec<(String, usize)> = heading
        .iter()
        .enumerate()
        .map(|(column, name)| ((*name).to_owned(), widest(column).unwrap_or_default()))
        .collect();
    let names: Vec<String> = heading.iter().map(|name| (*name).to_owned()).collect();
    let has_colours = colour::is_wanted();
    let mut text = text_line(&columns, &names, false);
    for row in rows {
        text.push_str(&text_line(&columns, row, has_colours));
    }
    text
}

/// A row with the end of its line.
fn text_line(columns: &[(String, usize)], values: &[String], has_colours: bool) -> String {
    let mut line = String::new();
    for ((name, width), value) in columns.iter().zip(values) {
        let value = printable(value);
        if has_colours {
            line.push_str(&colour::painted(name, &value));
        } else {
            line.push_str(&value);
        }
        let used = value.chars().count();
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(used) + 2));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// The system's error in one of the CSV library's, whose own conversion hides what kind it is.
pub fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn told(result: io::Result<()>) -> Result<(), Fatal> {
    result.map_err(|error| cli::unwritten(&error))
}
