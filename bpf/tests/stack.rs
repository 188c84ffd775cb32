//! How much stack the programs of uprobes use, fresh and prebuilt. Those can be preempted, and from Linux 6.13 on a function that uses
//! 64 bytes or more is given a stack that all tasks of a CPU share (BPF_PRIV_STACK_MIN_SIZE in kernel/bpf/verifier.c).

use std::collections::BTreeMap;

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

static FRESH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tls.bpf.o"));
static PREBUILT: &[u8] = aya::include_bytes_aligned!("../prebuilt/tls.bpf.o");

/// The verifier rounds what a function uses up to a multiple of 16 bytes, or of 32 where the kernel has no just-in-time compiler.
const MOST_BYTES: i32 = 48;

#[test]
fn no_function_of_a_uprobe_program_gets_a_stack_that_tasks_share() {
    for (name, bytes) in [("fresh", FRESH), ("prebuilt", PREBUILT)] {
        let used = stack_by_function(bytes);
        for function in
            ["read_entered", "write_ex_entered", "handshake_entered", "returned", "freed", "next_chunk"]
        {
            assert!(used.get(function).is_some_and(|bytes| *bytes > 0), "{name}: {function} in {used:?}");
        }
        let too_much: Vec<_> = used
            .iter()
            // The kernel does not let programs of tracepoints be preempted by themselves.
            .filter(|(function, _)| !["socket_sent", "socket_received"].contains(&function.as_str()))
            .filter(|(_, bytes)| **bytes > MOST_BYTES)
            .collect();
        assert!(too_much.is_empty(), "{name}: {too_much:?}");
    }
}

/// The deepest byte below the frame pointer (r10) that each function reads, writes or passes on (RFC 9669, section 3 and 5).
fn stack_by_function(bytes: &[u8]) -> BTreeMap<String, i32> {
    let elf = object::File::parse(bytes).expect("an ELF file");
    let mut used = BTreeMap::new();
    for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let section = elf.section_by_index(symbol.section_index().expect("a section")).expect("a section");
        let code = section.data().expect("code");
        let begin = symbol.address() as usize;
        let code = &code[begin..begin + symbol.size() as usize];
        used.insert(symbol.name().expect("text").to_owned(), deepest(code));
    }
    used
}

fn deepest(code: &[u8]) -> i32 {
    const FRAME: u8 = 10;
    // BPF_LDX, BPF_ST and BPF_STX; BPF_ALU64 with BPF_MOV or BPF_ADD of a register or a number.
    const ACCESSES: [u8; 3] = [1, 2, 3];
    const COPY: u8 = 0xBF;
    const ADD: u8 = 0x07;
    let mut most = 0;
    let mut copies = [false; 11];
    for instruction in code.chunks_exact(8) {
        let (operation, to, from) = (instruction[0], instruction[1] & 15, instruction[1] >> 4);
        let offset = i32::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let number = i32::from_le_bytes(instruction[4..8].try_into().expect("four bytes"));
        let base = if operation & 7 == 1 { from } else { to };
        if ACCESSES.contains(&(operation & 7)) && base == FRAME {
            most = most.max(-offset);
        }
        match operation {
            COPY => copies[usize::from(to)] = from == FRAME,
            ADD if copies[usize::from(to)] => {
                most = most.max(-number);
                copies[usize::from(to)] = false;
            }
            _ => {}
        }
    }
    most
}
