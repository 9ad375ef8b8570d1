//! The file of rows that were not accepted, with the reasons. It is made when there is a first one,
//! under a name that no file has. `import` takes it back once its rows are mended.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use walengine_net::cli::{Fatal, Reason};

use super::columns::{OF_REFUSED, is_formula};
use crate::cli::csv_file::records::Records;
use crate::cli::csv_file::source::Source;
use crate::private_files::parent_of;

/// Numbers that are tried for a name that is free.
const NUMBERS: u32 = 100_000;

/// Where refused rows go.
pub struct Refused {
    wanted: PathBuf,
    /// The name that it got.
    path: Option<PathBuf>,
    writer: Option<csv::Writer<File>>,
    header: Vec<String>,
    delimiter: u8,
    /// Takes the rows apart again.
    records: Records,
    record: ByteRecord,
}

impl Refused {
    /// Rows go to `wanted`, or to a file that is named after the source, in this directory.
    ///
    /// # Errors
    /// If `wanted` is the source itself, or can't be made.
    pub fn new(source: &Source, file: &Path, wanted: Option<&Path>) -> Result<Self, Fatal> {
        if let Some(path) = wanted
            && source.is_at(path)
        {
            let message =
                format!("--refused {} is the file that is imported; name another", path.display());
            return Err(Fatal::new(Reason::Usage, message));
        }
        let wanted = wanted.map_or_else(|| beside(file), Path::to_owned);
        let is_special = fs::metadata(&wanted).is_ok_and(|there| is_special(&there));
        let folder = parent_of(&wanted);
        let access = if is_special {
            Ok(())
        } else {
            rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)
        };
        access.map_err(|error| {
            let message = format!(
                "refused rows can't be written into {}: {error}; name another place with --refused",
                folder.display()
            );
            Fatal::new(Reason::File, message)
        })?;
        Ok(Self {
            wanted,
            path: None,
            writer: None,
            header: Vec::new(),
            delimiter: b',',
            records: Records::new(),
            record: ByteRecord::new(),
        })
    }

    /// Rows have this header from now on.
    pub fn like(&mut self, header: &[String], delimiter: u8) {
        header.clone_into(&mut self.header);
        self.delimiter = delimiter;
        self.records = Records::like(delimiter, header.len());
    }

    /// Its name, if there are any rows in it.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The file of an earlier import that stands where this one's would have been.
    pub fn stale(&self) -> Option<&Path> {
        (self.path.is_none() && self.wanted.is_file()).then_some(&self.wanted)
    }

    /// Adds a row: its bytes as they stand in the file.
    pub fn write(&mut self, line: u64, word: &str, why: &str, row: &[u8]) -> Result<(), Fatal> {
        if self.writer.is_none() {
            self.create()?;
        }
        // A row that came from such a file has the line and reason of then, and cells that are
        // protected.
        let is_second = self.header.len() > OF_REFUSED.len() && self.header[..3] == OF_REFUSED;
        self.records.feed(row);
        self.records.feed(b"\n");
        let Ok(Some(record)) = self.records.next() else {
            return Err(self.failed("a row that was read can't be read again"));
        };
        self.record.clear();
        for cell in [line.to_string().as_bytes(), word.as_bytes(), why.as_bytes()] {
            self.record.push_field(cell);
        }
        let mut protected = Vec::new();
        for cell in record.fields().skip(if is_second { OF_REFUSED.len() } else { 0 }) {
            if !is_second && is_formula(cell) {
                protected.clear();
                protected.push(b'\'');
                protected.extend_from_slice(cell);
                self.record.push_field(&protected);
            } else {
                self.record.push_field(cell);
            }
        }
        let written = self.writer.as_mut().map(|writer| writer.write_byte_record(&self.record));
        written.transpose().map(|_| ()).map_err(|error| self.failed(error))
    }

    /// Sees to it that every row so far is in the file.
    pub fn flush(&mut self) -> Result<(), Fatal> {
        let flushed = self.writer.as_mut().map_or(Ok(()), csv::Writer::flush);
        flushed.map_err(|error| self.failed(error))
    }

    fn create(&mut self) -> Result<(), Fatal> {
        let (path, file) = match create(&self.wanted) {
            Ok(made) => made,
            Err(error) => {
                self.path = Some(self.wanted.clone());
                return Err(self.failed(error));
            }
        };
        self.path = Some(path);
        let mut builder = csv::WriterBuilder::new();
        let mut writer = builder.delimiter(self.delimiter).from_writer(file);
        let is_second = self.header.len() > OF_REFUSED.len() && self.header[..3] == OF_REFUSED;
        let own = self.header.iter().skip(if is_second { OF_REFUSED.len() } else { 0 });
        let head = OF_REFUSED.into_iter().chain(own.map(String::as_str));
        writer.write_record(head).map_err(|error| self.failed(error))?;
        self.writer = Some(writer);
        Ok(())
    }

    fn failed(&self, error: impl std::fmt::Display) -> Fatal {
        let path = self.path.as_ref().unwrap_or(&self.wanted).display();
        Fatal::new(Reason::File, format!("cannot write refused rows to {path}: {error}"))
    }
}

/// `transfers.refused.csv` for `/there/transfers.csv.gz`.
fn beside(file: &Path) -> PathBuf {
    if file == Path::new("-") {
        return PathBuf::from("stdin.refused.csv");
    }
    let name = file.file_name().map_or(Path::new("import"), Path::new).to_string_lossy();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = stem.strip_suffix(".csv").unwrap_or(stem);
    PathBuf::from(format!("{stem}.refused.csv"))
}

/// Makes a file that was not there before: at `wanted`, or with the next number that is free. What
/// is no file, as a pipe, is written to.
fn create(wanted: &Path) -> io::Result<(PathBuf, File)> {
    if fs::metadata(wanted).is_ok_and(|there| is_special(&there)) {
        return Ok((wanted.to_owned(), File::options().write(true).open(wanted)?));
    }
    for number in 1..NUMBERS {
        let path = numbered(wanted, number);
        match File::options().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("there are too many of them; remove those that are done with"))
}

/// Whether it is a pipe or a device.
fn is_special(there: &fs::Metadata) -> bool {
    !there.is_file() && !there.is_dir()
}

/// `x.refused.2.csv` for `x.refused.csv`.
fn numbered(wanted: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return wanted.to_owned();
    }
    let stem = wanted.file_stem().unwrap_or_default().to_string_lossy();
    let name = match wanted.extension() {
        Some(extension) => format!("{stem}.{number}.{}", extension.to_string_lossy()),
        None => format!("{stem}.{number}"),
    };
    wanted.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(folder: &Path, header: &str) -> Refused {
        let input = folder.join("in.csv");
        fs::write(&input, "x\n").unwrap();
        let source = Source::open(&input).unwrap();
        let mut refused = Refused::new(&source, &input, Some(&folder.join("r.csv"))).unwrap();
        let header: Vec<String> = header.split(';').map(str::to_owned).collect();
        refused.like(&header, b';');
        refused
    }

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("walengine-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn rows_keep_their_bytes_and_run_in_no_spreadsheet() {
        let folder = folder("refused-bytes");
        let mut first = refused(&folder, "id;amount");
        first.write(7, "unreadable", "=why", b"\"J\xFC;\"\"rgen\";=1+1").unwrap();
        first.flush().unwrap();
        let expected =
            b"line;verdict;reason;id;amount\n7;unreadable;=why;\"J\xFC;\"\"rgen\";'=1+1\n";
        assert_eq!(fs::read(first.path().unwrap()).unwrap(), expected);

        // Imported again, it does not grow.
        let mut second = refused(&folder, "line;verdict;reason;id;amount");
        second.write(2, "unreadable", "why", b"7;unreadable;then;a;'=1+1").unwrap();
        second.flush().unwrap();
        assert_eq!(second.path().unwrap(), folder.join("r.2.csv"), "nothing is overwritten");
        let expected = b"line;verdict;reason;id;amount\n2;unreadable;why;a;'=1+1\n";
        assert_eq!(fs::read(second.path().unwrap()).unwrap(), expected);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_input_by_any_name_is_refused_and_an_earlier_file_is_told() {
        let folder = folder("refused-input");
        let input = folder.join("in.csv");
        fs::write(&input, "x\n").unwrap();
        std::os::unix::fs::symlink(&input, folder.join("link.csv")).unwrap();
        fs::hard_link(&input, folder.join("hard.csv")).unwrap();
        let source = Source::open(&input).unwrap();
        for name in ["in.csv", "link.csv", "hard.csv"] {
            let error = Refused::new(&source, &input, Some(&folder.join(name))).err().unwrap();
            assert_eq!(error.reason, Reason::Usage);
        }
        assert!(Refused::new(&source, &input, Some(&folder.join("no/r.csv"))).is_err());
        fs::write(folder.join("old.csv"), "old").unwrap();
        let refused = Refused::new(&source, &input, Some(&folder.join("old.csv"))).unwrap();
        assert_eq!(refused.stale(), Some(folder.join("old.csv").as_path()));
        assert_eq!(beside(Path::new("/there/a.csv.gz")), Path::new("a.refused.csv"));
        fs::remove_dir_all(folder).unwrap();
    }
}
