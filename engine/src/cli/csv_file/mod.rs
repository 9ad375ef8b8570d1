//! CSV files of the user's. [`records`] is the format, pure; [`source`] is where the bytes come
//! from. A file that is only nearly CSV is an error with its line: a guess would move money.

pub mod records;
pub mod source;

use std::io::Read;
use std::path::Path;

use walengine_net::cli::{Fatal, Reason};

use crate::limits::CSV_BLOCK_BYTES;
use records::{Broken, Records};
use source::Source;

/// The error of a file that is not as it should be.
pub fn broken(source: &Source, error: &Broken) -> Fatal {
    Fatal::new(Reason::File, format!("{}, {error}", source.shown()))
}

/// Gives `records` the next bytes of a file, or says that it has ended.
pub fn feed(
    source: &Source,
    bytes: &mut dyn Read,
    block: &mut Vec<u8>,
    records: &mut Records,
) -> Result<(), Fatal> {
    block.resize(CSV_BLOCK_BYTES, 0);
    match source.told(bytes.read(block))? {
        0 => records.end(),
        read => records.feed(&block[..read]),
    }
    Ok(())
}

/// The first field of every record after the header.
pub fn first_column(path: &Path) -> Result<Vec<String>, Fatal> {
    let source = Source::open(path)?;
    let (mut records, mut block) = (Records::new(), Vec::new());
    let mut bytes = source.first();
    let mut texts = Vec::new();
    let mut has_header = false;
    loop {
        if has_header {
            while let Some(record) = records.next().map_err(|error| broken(&source, &error))? {
                let Ok(text) = std::str::from_utf8(record.field(0)) else {
                    return Err(broken(&source, &Broken::at(record.line, records::NOT_UTF_8)));
                };
                texts.push(text.trim().to_owned());
            }
        } else {
            has_header = records.header().map_err(|error| broken(&source, &error))?.is_some();
            if has_header {
                continue;
            }
        }
        if records.has_ended() {
            source.unchanged()?;
            return Ok(texts);
        }
        feed(&source, &mut *bytes, &mut block, &mut records)?;
    }
}
