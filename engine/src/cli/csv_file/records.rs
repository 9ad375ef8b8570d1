//! Bytes in, records out: CSV as RFC 4180 has it. Pure: no I/O, and no allocation for a record.
//!
//! Fields are separated by a comma, a semicolon or a tab; the header tells which. A field that
//! begins with a quote ends with one, and a quote in it is doubled. Nothing else is taken: a reader
//! that makes the best of a damaged file puts amounts into the wrong column.

use std::fmt;

use memchr::{memchr, memchr_iter, memchr2};

use crate::limits::CSV_RECORD_BYTES_MAX;

/// What to do about text that is not UTF-8.
pub const NOT_UTF_8: &str = "is not UTF-8; it looks like Latin-1 or Windows-1252: convert the file \
                             with `iconv -f WINDOWS-1252 -t UTF-8`";

const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// Why a file can't be read as CSV. Everything after it may be anything, so it ends the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Broken {
    /// At a line.
    pub fn at(line: u64, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads records from bytes that come in pieces.
#[derive(Debug)]
pub struct Records {
    buffer: Vec<u8>,
    /// Where the next record begins in `buffer`.
    at: usize,
    /// Its line.
    line: u64,
    has_ended: bool,
    delimiter: u8,
    /// Fields of the header, and so of every record; 0 before the header.
    width: usize,
    fields: Vec<(u32, u32)>,
    /// Content of the fields of a record that has quotes.
    unquoted: Vec<u8>,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The line in which it begins, from 1.
    pub line: u64,
    /// Its bytes as they stand in the file, without the line's end.
    pub raw: &'a [u8],
    content: &'a [u8],
    fields: &'a [(u32, u32)],
}

impl<'a> Record<'a> {
    /// Content of a field.
    ///
    /// # Panics
    /// If there is no such field. A record has as many as the header.
    pub fn field(&self, at: usize) -> &'a [u8] {
        let (start, end) = self.fields[at];
        &self.content[start as usize..end as usize]
    }

    /// Content of all fields.
    pub fn fields(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let content = self.content;
        self.fields.iter().map(move |&(start, end)| &content[start as usize..end as usize])
    }
}

/// Where a record ends.
struct End {
    /// Bytes of the record.
    raw: usize,
    /// Bytes up to the next record.
    next: usize,
    /// Line ends in it, its own included.
    lines: u64,
    has_quotes: bool,
}

impl Records {
    /// Before the first byte.
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            at: 0,
            line: 1,
            has_ended: false,
            delimiter: b',',
            width: 0,
            fields: Vec::new(),
            unquoted: Vec::new(),
        }
    }

    /// Records of the same shape as another's, from bytes that stood in it.
    pub fn like(delimiter: u8, width: usize) -> Self {
        Self { delimiter, width, ..Self::new() }
    }

    /// Adds bytes. Best done when [`Self::next`] has nothing more.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// There are no more bytes.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    /// Whether there are no more bytes than it has.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What separates fields. Known once the header is.
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// The names of the columns, trimmed; `None` as long as bytes are missing.
    pub fn header(&mut self) -> Result<Option<Vec<String>>, Broken> {
        if !self.has_ended && self.buffer.len() < 4 {
            return Ok(None);
        }
        if let Some(what) = other_format(&self.buffer) {
            return Err(Broken::at(1, what));
        }
        if self.buffer.starts_with(b"\xEF\xBB\xBF") {
            self.buffer.drain(..3);
        }
        if self.buffer.iter().all(u8::is_ascii_whitespace) && self.has_ended {
            return Err(Broken::at(1, "the file is empty; it should begin with a header"));
        }
        self.delimiter = delimiter(&self.buffer);
        let Some(record) = self.next()? else { return Ok(None) };
        let line = record.line;
        let names: Option<Vec<String>> = record
            .fields()
            .map(|name| Some(std::str::from_utf8(name).ok()?.trim().to_owned()))
            .collect();
        let names = names.ok_or_else(|| Broken::at(line, format!("the header {NOT_UTF_8}")))?;
        self.width = names.len();
        Ok(Some(names))
    }

    /// The next record; `None` as long as bytes are missing, and at the end.
    #[allow(clippy::should_implement_trait, reason = "what it gives borrows from it")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Broken> {
        let (at, line, end) = loop {
            let Some(end) = self.scan()? else { return Ok(None) };
            let (at, line) = (self.at, self.line);
            self.at += end.next;
            self.line += end.lines;
            if end.raw > 0 {
                break (at, line, end);
            }
        };
        if self.width > 0 && self.fields.len() != self.width {
            return Err(self.other_width(line, end.has_quotes));
        }
        let raw = &self.buffer[at..at + end.raw];
        let content = if end.has_quotes { &self.unquoted[..] } else { raw };
        Ok(Some(Record { line, raw, content, fields: &self.fields }))
    }

    /// Finds the end of the record at `at`, and its fields.
    fn scan(&mut self) -> Result<Option<End>, Broken> {
        let rest = &self.buffer[self.at..];
        self.fields.clear();
        let Some(length) = memchr(b'\n', rest) else { return self.unended() };
        let line = &rest[..length];
        if memchr2(b'"', b'\r', line).is_none() {
            self.fields.extend(split(self.delimiter, line));
            return Ok(Some(End { raw: length, next: length + 1, lines: 1, has_quotes: false }));
        }
        if memchr(b'"', line).is_some() {
            return self.quoted();
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if memchr(b'\r', line).is_some() {
            return Err(Broken::at(self.line, CARRIAGE_RETURN));
        }
        self.fields.extend(split(self.delimiter, line));
        Ok(Some(End { raw: line.len(), next: length + 1, lines: 1, has_quotes: false }))
    }

    /// There is no line end in what is left.
    fn unended(&mut self) -> Result<Option<End>, Broken> {
        let rest = &self.buffer[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        if !self.has_ended && rest.len() <= CSV_RECORD_BYTES_MAX {
            return Ok(None);
        }
        if memchr(b'"', rest).is_some() {
            return self.quoted();
        }
        if memchr(b'\r', rest).is_some() {
            return Err(Broken::at(self.line, CARRIAGE_RETURN));
        }
        if !self.has_ended {
            return Err(too_long(self.line));
        }
        Err(Broken::at(self.line, CUT_OFF))
    }

    /// A record with quotes, byte by byte.
    fn quoted(&mut self) -> Result<Option<End>, Broken> {
        #[derive(PartialEq)]
        enum In {
            Start,
            Plain,
            Quotes,
            /// After a quote in quotes: their end, or the first of two.
            Quote,
        }
        let rest = &self.buffer[self.at..];
        let (mut state, mut line, mut opened) = (In::Start, self.line, self.line);
        let unquoted = &mut self.unquoted;
        unquoted.clear();
        let mut start = 0;
        for (at, &byte) in rest.iter().enumerate() {
            if at > CSV_RECORD_BYTES_MAX {
                return Err(too_long(self.line));
            }
            let ends_line = byte == b'\n';
            match (&state, byte) {
                (In::Quotes, b'"') => state = In::Quote,
                (In::Quotes, _) => unquoted.push(byte),
                (In::Quote, b'"') => {
                    unquoted.push(byte);
                    state = In::Quotes;
                }
                (In::Start, b'"') => (state, opened) = (In::Quotes, line),
                (_, byte) if byte == self.delimiter => {
                    self.fields.push((start, unquoted.len() as u32));
                    start = unquoted.len() as u32;
                    state = In::Start;
                }
                (_, b'\n') => {
                    self.fields.push((start, unquoted.len() as u32));
                    let raw = rest[..at].strip_suffix(b"\r").unwrap_or(&rest[..at]).len();
                    let lines = line + 1 - self.line;
                    return Ok(Some(End { raw, next: at + 1, lines, has_quotes: true }));
                }
                (_, b'\r') => match rest.get(at + 1) {
                    Some(b'\n') => {}
                    None if !self.has_ended => return Ok(None),
                    _ => return Err(Broken::at(line, CARRIAGE_RETURN)),
                },
                (In::Quote, _) => {
                    let what = format!(
                        "text after a closing quote (of line {opened}): a quote inside of quotes \
                         must be doubled"
                    );
                    return Err(Broken::at(line, what));
                }
                (_, b'"') => {
                    let what = "a quote inside of a field that does not begin with one: put the \
                                whole field into quotes, and double the quotes in it";
                    return Err(Broken::at(line, what));
                }
                (In::Start | In::Plain, byte) => {
                    unquoted.push(byte);
                    state = In::Plain;
                }
            }
            line += u64::from(ends_line);
        }
        if !self.has_ended {
            return Ok(None);
        }
        if state == In::Quotes {
            let what = "the quote that is opened here is never closed: the rest of the file would \
                        be one field";
            return Err(Broken::at(opened, what));
        }
        Err(Broken::at(line, CUT_OFF))
    }

    fn other_width(&self, line: u64, has_quotes: bool) -> Broken {
        let (found, width) = (self.fields.len(), self.width);
        let why = if found < width {
            "is the row cut off?"
        } else if has_quotes {
            "has the header all names?"
        } else {
            match self.delimiter {
                b',' => "is there a comma in a number or a text? Put it into quotes",
                b';' => "is there a semicolon in a text? Put it into quotes",
                _ => "is there a tab in a text? Put it into quotes",
            }
        };
        let fields = if found == 1 { "field" } else { "fields" };
        Broken::at(line, format!("{found} {fields}, and the header has {width}: {why}"))
    }
}

const CARRIAGE_RETURN: &str = "a carriage return that ends no line: convert the file's line ends, \
                               as with `tr '\\r' '\\n'` if it has no others";
const CUT_OFF: &str = "the last line has no line end, so the file may have been cut off: if it is \
                       whole, add one, as with `echo >>FILE`";

fn too_long(line: u64) -> Broken {
    let what = format!(
        "a row of more than {} KiB: is a quote never closed, or is it no CSV file?",
        CSV_RECORD_BYTES_MAX >> 10
    );
    Broken::at(line, what)
}

/// Places of the fields of a line without quotes.
fn split(delimiter: u8, line: &[u8]) -> impl Iterator<Item = (u32, u32)> + use<'_> {
    let mut start = 0;
    memchr_iter(delimiter, line).chain([line.len()]).map(move |end| {
        let field = (start, end as u32);
        start = end as u32 + 1;
        field
    })
}

/// The separator that stands most often in the first line.
fn delimiter(bytes: &[u8]) -> u8 {
    let mut counts = [0u32; DELIMITERS.len()];
    let mut is_quoted = false;
    let mut has_text = false;
    for &byte in bytes {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\n' if !is_quoted && has_text => break,
            _ if is_quoted => {}
            _ => {
                has_text |= !byte.is_ascii_whitespace();
                if let Some(which) = DELIMITERS.iter().position(|&one| one == byte) {
                    counts[which] += 1;
                }
            }
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let which = counts.iter().position(|&count| count == most).unwrap_or(0);
    DELIMITERS[which]
}

/// What a file is that is no text in UTF-8.
fn other_format(start: &[u8]) -> Option<String> {
    let archive = |what: &str, command: &str| {
        Some(format!("this is {what}: unpack it, as with `{command} FILE | walengine import -`"))
    };
    match start {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => Some(utf("UTF-32")),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => Some(utf("UTF-16")),
        [_, 0, _, 0, ..] | [_, 0] => Some(utf("UTF-16LE")),
        [0, _, 0, _, ..] | [0, _] => Some(utf("UTF-16BE")),
        [b'P', b'K', 3, 4, ..] => Some(
            "this is a ZIP archive or a spreadsheet (.xlsx, .ods), not text: save it as CSV".into(),
        ),
        [0xD0, 0xCF, 0x11, 0xE0, ..] => {
            Some("this is a spreadsheet (.xls), not text: save it as CSV".into())
        }
        [0x28, 0xB5, 0x2F, 0xFD, ..] => archive("packed by zstd", "zstd -dc"),
        [0xFD, b'7', b'z', b'X', ..] => archive("packed by xz", "xz -dc"),
        [b'B', b'Z', b'h', ..] => archive("packed by bzip2", "bzip2 -dc"),
        _ => None,
    }
}

fn utf(name: &str) -> String {
    format!("the file is {name}, not UTF-8: convert it with `iconv -f {name} -t UTF-8`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All records, or the error.
    fn read(text: &[u8]) -> Result<Vec<(u64, Vec<String>)>, Broken> {
        let mut records = Records::new();
        records.feed(text);
        records.end();
        records.header()?.expect("the text has ended");
        let mut all = Vec::new();
        while let Some(record) = records.next()? {
            let field = |field| String::from_utf8_lossy(field).into_owned();
            all.push((record.line, record.fields().map(field).collect()));
        }
        Ok(all)
    }

    fn error(text: &[u8]) -> (u64, String) {
        let broken = read(text).expect_err("it is broken");
        (broken.line, broken.what)
    }

    #[test]
    fn fields_are_what_stands_between_separators_and_in_quotes() {
        let all = read(b"\xEF\xBB\xBFa,b\r\n1,\"x,\"\"y\"\"\n z\"\r\n\n2, 3\n,\n").unwrap();
        let expected = [(2, ["1", "x,\"y\"\n z"]), (5, ["2", " 3"]), (6, ["", ""])];
        assert_eq!(all.len(), expected.len());
        for ((line, fields), (expected_line, expected)) in all.iter().zip(expected) {
            assert_eq!((*line, &fields[..]), (expected_line, &expected.map(str::to_owned)[..]));
        }
        assert_eq!(read(b"a;b,c\td;e\n1;2;3\n").unwrap()[0].1, ["1", "2", "3"]);
        assert_eq!(read(b"a\tb\n1\t2,5\n").unwrap()[0].1, ["1", "2,5"]);
    }

    #[test]
    fn what_is_only_nearly_csv_is_an_error_with_its_line() {
        for (text, line, words) in [
            (&b"a,b\n1,2,3\n"[..], 2, "3 fields, and the header has 2"),
            (b"a,b\n1,2\n1\n", 3, "1 field, and the header has 2"),
            (b"a,b\n1,2\n3,4", 3, "no line end"),
            (b"a,b\n1,\"2\n3,4\n5,6\n", 2, "never closed"),
            (b"a,b\n1,\"2\"x\n", 2, "after a closing quote"),
            (b"a,b\n1,2\"x\"\n", 2, "a quote inside of a field"),
            (b"a,b\n1, \"2\"\n", 2, "a quote inside of a field"),
            (b"a,b\r1,2\r", 1, "carriage return"),
            (b"a,b\n1,2\r3,4\n", 2, "carriage return"),
            (b"a,b\n1,\"2\"\r3\n", 2, "carriage return"),
            (b"", 1, "empty"),
            (b"\n \n", 1, "empty"),
            (b"\xFF\xFEa\0,\0", 1, "UTF-16"),
            (b"a\0,\0b\0\n\0", 1, "UTF-16LE"),
            (b"\0a\0,\0b", 1, "UTF-16BE"),
            (b"PK\x03\x04....", 1, "spreadsheet"),
            (b"J\xFCrgen,b\n1,2\n", 1, "Latin-1"),
        ] {
            let (found, what) = error(text);
            assert!(found == line && what.contains(words), "{text:?}: line {found}: {what}");
        }
    }

    #[test]
    fn a_row_without_an_end_is_not_kept_in_memory() {
        for start in [&b"a,b\n1,"[..], b"a,b\n1,\""] {
            let mut records = Records::new();
            records.feed(start);
            records.header().unwrap().unwrap();
            let mut fed = 0;
            let what = loop {
                match records.next() {
                    Err(broken) => break broken.what,
                    Ok(record) => assert!(record.is_none()),
                }
                records.feed(&[b'x'; 4096]);
                fed += 4096;
            };
            assert!(
                fed <= CSV_RECORD_BYTES_MAX + 8192 && what.contains("1024 KiB"),
                "{fed} {what}"
            );
        }
    }
}
