//! Where results go while they are measured.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use crate::record::{self, Record};

/// A file, where one is wanted, and everything that was measured. Each record is written at once: what was measured
/// stays when the rest is interrupted.
pub struct Output {
    file: Option<File>,
    /// What was written, and what was there before.
    pub records: Vec<Record>,
}

impl Output {
    /// Appends to `path`, if there is one. `records` were there before.
    pub fn open(path: Option<&Path>, records: Vec<Record>) -> io::Result<Self> {
        let open = |path: &Path| {
            let opened = File::options().create(true).append(true).open(path);
            opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        Ok(Self { file: path.map(open).transpose()?, records })
    }

    /// Takes a record.
    pub fn write(&mut self, record: Record) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(record::to_line(&record).as_bytes())?;
        }
        self.records.push(record);
        Ok(())
    }
}

/// Where results are, or how they can be had the next time.
pub fn tell_where(output: Option<&Path>, page: Option<&Path>) {
    if output.is_none() && page.is_none() {
        eprintln!("nothing was kept: --output FILE keeps results, --html FILE makes a page of them");
    }
    for (path, what) in [(output, "results, for report and compare"), (page, "page, for a browser")] {
        if let Some(path) = path {
            eprintln!("{}: {what}", path.display());
        }
    }
}
