//! Where functions begin in an ELF file. In: a file, which may be large, damaged or hostile, and names of functions. Out: their offsets
//! in the file, as probes want them. Of the file only its tables are read, and of these no more than is bounded.

use std::fs::File;

use object::elf::{FileHeader64, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, Sym64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::read::{Error, ReadCache};
use object::{Endianness, SectionIndex};

/// Larger tables of symbols or names are not read.
const MOST_TABLE_BYTES: u64 = 128 << 20;

/// None for a function that the file does not define. Symbols for the dynamic linker come first, then those for debuggers.
pub(crate) fn offsets<const N: usize>(file: &File, names: [&str; N]) -> Result<[Option<u64>; N], Error> {
    let cache = ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(&cache)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, &cache)?;
    let segments = header.program_headers(endian, &cache)?;
    let offset = |address: u64| {
        segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).find_map(|segment| {
            let within = address.checked_sub(segment.p_vaddr(endian))?;
            (within < segment.p_filesz(endian)).then(|| segment.p_offset(endian).checked_add(within))?
        })
    };
    let mut found = [None; N];
    for kind in [SHT_DYNSYM, SHT_SYMTAB] {
        let Some(table) = sections.iter().find(|section| section.sh_type(endian) == kind) else { continue };
        let texts = sections.section(SectionIndex(table.sh_link(endian) as usize))?;
        if table.sh_size(endian).max(texts.sh_size(endian)) > MOST_TABLE_BYTES {
            continue;
        }
        let symbols: &[Sym64<Endianness>] = table.data_as_array(endian, &cache)?;
        let texts = texts.data(endian, &cache)?;
        for symbol in symbols.iter().filter(|symbol| symbol.st_shndx(endian) != SHN_UNDEF) {
            let text = texts.get(symbol.st_name(endian) as usize..).unwrap_or_default();
            if let Some(at) = names.iter().position(|name| is_named(text, name)) {
                found[at] = found[at].or_else(|| offset(symbol.st_value(endian)));
            }
        }
    }
    Ok(found)
}

/// Names end with a zero; a version may follow them (`NAME@@VERSION`).
fn is_named(text: &[u8], name: &str) -> bool {
    text.strip_prefix(name.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(0 | b'@')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_this_program_are_where_their_code_is() {
        let file = File::open("/proc/self/exe").expect("this program");
        let found = offsets(&file, ["main", "no_function_of_this_name"]).expect("an ELF file");
        assert!(found[0].is_some_and(|offset| offset > 0) && found[1].is_none(), "{found:?}");
        // Which end is which is up to the linker; the code is that of the file all the same.
        let bytes = std::fs::read("/proc/self/exe").expect("this program");
        let at = found[0].expect("main") as usize;
        assert!(bytes[at..at + 4].iter().any(|byte| *byte != 0));
    }

    #[test]
    fn what_is_cut_or_damaged_is_an_error_or_has_no_such_function() {
        let whole = std::fs::read("/proc/self/exe").expect("this program");
        let path = std::env::temp_dir().join(format!("shark-bpf-symbols-{}", std::process::id()));
        for (cut, change) in [(0, 0), (40, 0), (4096, 0), (whole.len() / 2, 0), (whole.len(), 0xFF)] {
            let mut bytes = whole[..cut].to_vec();
            // Offset and number of the sections, which are then far behind the end.
            if change != 0 {
                bytes[40..48].fill(change);
            }
            std::fs::write(&path, bytes).expect("a file");
            let result = offsets(&File::open(&path).expect("a file"), ["main"]);
            assert!(result.is_err() || result.is_ok_and(|found| found[0].is_none()), "cut at {cut}");
        }
        std::fs::remove_file(path).expect("it is there");
    }
}
