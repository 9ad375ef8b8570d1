//! Bytes of a file in, batches of transfers out: all that an import decides by itself. Pure, so that
//! any number of files can be tried against a model.

use super::chains::{Batch, Chains};
use super::columns::{Columns, Wanted};
use super::names::Names;
use crate::cli::csv_file::records::{Broken, Records};

/// One reading of a file.
#[derive(Debug)]
pub struct Reading {
    records: Records,
    header: Vec<String>,
    columns: Option<Columns>,
    wanted: Wanted,
    chains: Chains,
    names: Names,
    is_over: bool,
}

/// What a reading comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It wants more bytes, or to know that there are none.
    More,
    /// A batch is complete.
    Batch,
    /// There is nothing more.
    End,
}

impl Reading {
    /// Before the first byte. A later reading of the same file begins with the names of the first.
    pub fn new(wanted: &Wanted, names: Names) -> Self {
        Self {
            records: Records::new(),
            header: Vec::new(),
            columns: None,
            wanted: wanted.clone(),
            chains: Chains::new(),
            names,
            is_over: false,
        }
    }

    /// Where bytes go.
    pub fn records(&mut self) -> &mut Records {
        &mut self.records
    }

    /// Names of the columns.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// What separates fields.
    pub fn delimiter(&self) -> u8 {
        self.records.delimiter()
    }

    /// The accounts so far.
    pub fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// The accounts of the whole file.
    pub fn into_names(self) -> Names {
        self.names
    }

    /// Goes on until a batch is complete, which is put into `batch`, or something is missing.
    ///
    /// # Errors
    /// If the file is broken. What stands behind that may be anything, so nothing more is to be
    /// taken from it.
    pub fn step(&mut self, batch: &mut Batch) -> Result<Step, Broken> {
        let columns = if let Some(columns) = &self.columns {
            columns
        } else {
            let Some(header) = self.records.header()? else { return Ok(Step::More) };
            let columns = Columns::find(&header, &self.wanted);
            self.header = header;
            self.columns.insert(columns.map_err(|what| Broken::at(1, what))?)
        };
        while let Some(record) = self.records.next()? {
            let row = columns.read(&record, &mut self.names);
            if self.chains.push(record.line, record.raw, row) {
                if self.chains.has_too_many_held() {
                    let what = "so many rows can't be read that this is not the file it is taken \
                                for";
                    return Err(Broken::at(record.line, what));
                }
                self.chains.take(batch);
                return Ok(Step::Batch);
            }
        }
        if !self.records.has_ended() {
            return Ok(Step::More);
        }
        if !self.is_over {
            self.is_over = true;
            self.chains.end();
        }
        self.chains.take(batch);
        Ok(if batch.rows.is_empty() { Step::End } else { Step::Batch })
    }
}
