//! Fields of requests and responses, as far as the columns need them, in the order of Kafka's message definitions
//! (clients/src/main/resources/common/message/*.json) and with the versions that have each.

/// A field: what it is, the versions that have it, what is kept of it.
#[derive(Debug)]
pub struct Field {
    /// What it is.
    pub kind: Kind,
    /// First version that has it.
    pub from: i16,
    /// Last version that has it.
    pub to: i16,
    /// What is kept of it.
    pub keep: Keep,
}

/// Form of a field.
#[derive(Debug)]
#[allow(missing_docs, reason = "numbers are what they are")]
pub enum Kind {
    I8,
    I16,
    I32,
    I64,
    /// 16 bytes.
    Id,
    /// A text, or none.
    Text,
    /// A list of structures.
    List(&'static [Field]),
    /// A list of what is no structure: the one field of each.
    Plain(&'static [Field]),
    /// Record batches.
    Records,
}

/// What a field is to a row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are those of columns")]
pub enum Keep {
    Nothing,
    Group,
    /// The group, if its kind says that it is one.
    Coordinated,
    /// 0 for a group.
    CoordinatedKind,
    Topic,
    Partition,
    Offset,
    Acks,
    Throttle,
    Error,
    /// Where it is an error, what follows has the form of version 0.
    ErrorOfVersion,
}

use Keep::{
    Acks, Coordinated, CoordinatedKind, Error, ErrorOfVersion, Group, Nothing, Offset, Partition, Throttle,
    Topic,
};
use Kind::{I8, I16, I32, I64, Id, List, Plain, Records, Text};

const fn between(from: i16, to: i16, kind: Kind, keep: Keep) -> Field {
    Field { kind, from, to, keep }
}

const fn since(from: i16, kind: Kind, keep: Keep) -> Field {
    between(from, i16::MAX, kind, keep)
}

const fn until(to: i16, kind: Kind, keep: Keep) -> Field {
    between(0, to, kind, keep)
}

const fn all(kind: Kind, keep: Keep) -> Field {
    since(0, kind, keep)
}

/// Not kept.
const fn pass(kind: Kind) -> Field {
    all(kind, Nothing)
}

const fn pass_since(from: i16, kind: Kind) -> Field {
    since(from, kind, Nothing)
}

pub static PRODUCE: &[Field] = &[
    pass_since(3, Text),
    all(I16, Acks),
    pass(I32),
    pass(List(&[
        until(12, Text, Topic),
        since(13, Id, Topic),
        pass(List(&[all(I32, Partition), pass(Records)])),
    ])),
];

pub static PRODUCED: &[Field] = &[
    pass(List(&[
        until(12, Text, Topic),
        since(13, Id, Topic),
        pass(List(&[
            all(I32, Partition),
            all(I16, Error),
            all(I64, Offset),
            pass_since(2, I64),
            pass_since(5, I64),
            pass_since(8, List(&[pass_since(8, I32), pass_since(8, Text)])),
            pass_since(8, Text),
        ])),
    ])),
    since(1, I32, Throttle),
];

pub static FETCH: &[Field] = &[
    until(14, I32, Nothing),
    pass(I32),
    pass(I32),
    pass_since(3, I32),
    pass_since(4, I8),
    pass_since(7, I32),
    pass_since(7, I32),
    pass(List(&[
        until(12, Text, Topic),
        since(13, Id, Topic),
        pass(List(&[
            all(I32, Partition),
            pass_since(9, I32),
            all(I64, Offset),
            pass_since(12, I32),
            pass_since(5, I64),
            pass(I32),
        ])),
    ])),
];

pub static FETCHED: &[Field] = &[
    since(1, I32, Throttle),
    since(7, I16, Error),
    pass_since(7, I32),
    pass(List(&[
        until(12, Text, Topic),
        since(13, Id, Topic),
        pass(List(&[
            all(I32, Partition),
            all(I16, Error),
            pass(I64),
            pass_since(4, I64),
            pass_since(5, I64),
            pass_since(4, List(&[pass_since(4, I64), pass_since(4, I64)])),
            pass_since(11, I32),
            pass(Records),
        ])),
    ])),
];

pub static LIST_OFFSETS: &[Field] = &[
    pass(I32),
    pass_since(2, I8),
    pass(List(&[
        all(Text, Topic),
        pass(List(&[all(I32, Partition), pass_since(4, I32), pass(I64), until(0, I32, Nothing)])),
    ])),
];

pub static LISTED_OFFSETS: &[Field] = &[
    since(2, I32, Throttle),
    pass(List(&[
        all(Text, Topic),
        pass(List(&[
            all(I32, Partition),
            all(I16, Error),
            until(0, List(&[until(0, I64, Offset)]), Nothing),
            pass_since(1, I64),
            since(1, I64, Offset),
            pass_since(4, I32),
        ])),
    ])),
];

pub static METADATA: &[Field] = &[pass(List(&[pass_since(10, Id), all(Text, Topic)]))];

/// The topics of the answer are not those asked for: without a list it has all there are.
pub static METADATA_TOLD: &[Field] = &[
    since(3, I32, Throttle),
    pass(List(&[pass(I32), pass(Text), pass(I32), pass_since(1, Text)])),
    pass_since(2, Text),
    pass_since(1, I32),
    pass(List(&[
        all(I16, Error),
        pass(Text),
        pass_since(10, Id),
        pass_since(1, I8),
        pass(List(&[
            all(I16, Error),
            pass(I32),
            pass(I32),
            pass_since(7, I32),
            pass(Plain(&[pass(I32)])),
            pass(Plain(&[pass(I32)])),
            pass_since(5, Plain(&[pass(I32)])),
        ])),
        pass_since(8, I32),
    ])),
    between(8, 10, I32, Nothing),
    since(13, I16, Error),
];

pub static OFFSET_COMMIT: &[Field] = &[
    all(Text, Group),
    pass_since(1, I32),
    pass_since(1, Text),
    pass_since(7, Text),
    between(2, 4, I64, Nothing),
    pass(List(&[
        until(9, Text, Topic),
        since(10, Id, Topic),
        pass(List(&[
            all(I32, Partition),
            all(I64, Offset),
            pass_since(6, I32),
            between(1, 1, I64, Nothing),
            pass(Text),
        ])),
    ])),
];

pub static OFFSET_COMMITTED: &[Field] = &[
    since(3, I32, Throttle),
    pass(List(&[
        until(9, Text, Topic),
        since(10, Id, Topic),
        pass(List(&[all(I32, Partition), all(I16, Error)])),
    ])),
];

pub static OFFSET_FETCH: &[Field] = &[
    until(7, Text, Group),
    until(7, List(&[all(Text, Topic), pass(Plain(&[all(I32, Partition)]))]), Nothing),
    pass_since(
        8,
        List(&[
            since(8, Text, Group),
            pass_since(9, Text),
            pass_since(9, I32),
            pass_since(
                8,
                List(&[
                    between(8, 9, Text, Topic),
                    since(10, Id, Topic),
                    pass_since(8, Plain(&[all(I32, Partition)])),
                ]),
            ),
        ]),
    ),
];

static OFFSET_OF_PARTITION: &[Field] =
    &[all(I32, Partition), all(I64, Offset), pass_since(5, I32), pass(Text), all(I16, Error)];

pub static OFFSET_FETCHED: &[Field] = &[
    since(3, I32, Throttle),
    until(7, List(&[all(Text, Topic), pass(List(OFFSET_OF_PARTITION))]), Nothing),
    between(2, 7, I16, Error),
    pass_since(
        8,
        List(&[
            since(8, Text, Group),
            pass_since(
                8,
                List(&[
                    between(8, 9, Text, Topic),
                    since(10, Id, Topic),
                    pass_since(8, List(OFFSET_OF_PARTITION)),
                ]),
            ),
            since(8, I16, Error),
        ]),
    ),
];

pub static FIND_COORDINATOR: &[Field] = &[
    until(3, Text, Coordinated),
    since(1, I8, CoordinatedKind),
    pass_since(4, Plain(&[all(Text, Coordinated)])),
];

pub static FOUND_COORDINATOR: &[Field] = &[
    since(1, I32, Throttle),
    until(3, I16, Error),
    pass_since(
        4,
        List(&[
            pass_since(4, Text),
            pass_since(4, I32),
            pass_since(4, Text),
            pass_since(4, I32),
            since(4, I16, Error),
            pass_since(4, Text),
        ]),
    ),
];

/// Requests whose first field is the group.
pub static OF_GROUP: &[Field] = &[all(Text, Group)];

pub static JOINED_GROUP: &[Field] = &[since(2, I32, Throttle), all(I16, Error)];

pub static LEFT_GROUP: &[Field] = &[
    since(1, I32, Throttle),
    all(I16, Error),
    pass_since(3, List(&[pass_since(3, Text), pass_since(3, Text), since(3, I16, Error)])),
];

pub static CREATE_TOPICS: &[Field] = &[pass(List(&[all(Text, Topic)]))];

pub static CREATED_TOPICS: &[Field] = &[
    since(2, I32, Throttle),
    pass(List(&[
        all(Text, Topic),
        pass_since(7, Id),
        all(I16, Error),
        pass_since(1, Text),
        pass_since(5, I32),
        pass_since(5, I16),
        pass_since(
            5,
            List(&[
                pass_since(5, Text),
                pass_since(5, Text),
                pass_since(5, I8),
                pass_since(5, I8),
                pass_since(5, I8),
            ]),
        ),
    ])),
];

pub static DELETE_TOPICS: &[Field] = &[
    pass_since(6, List(&[all(Text, Topic), all(Id, Topic)])),
    until(5, Plain(&[all(Text, Topic)]), Nothing),
];

pub static DELETED_TOPICS: &[Field] = &[
    since(1, I32, Throttle),
    pass(List(&[all(Text, Topic), since(6, Id, Topic), all(I16, Error), pass_since(5, Text)])),
];

static TOPIC_AND_PARTITIONS: &[Field] = &[all(Text, Topic), pass(Plain(&[all(I32, Partition)]))];

pub static ADD_PARTITIONS: &[Field] = &[
    pass_since(4, List(&[pass(Text), pass(I64), pass(I16), pass(I8), pass(List(TOPIC_AND_PARTITIONS))])),
    until(3, Text, Nothing),
    until(3, I64, Nothing),
    until(3, I16, Nothing),
    until(3, List(TOPIC_AND_PARTITIONS), Nothing),
];

static TOPIC_AND_ERRORS: &[Field] = &[all(Text, Topic), pass(List(&[all(I32, Partition), all(I16, Error)]))];

pub static ADDED_PARTITIONS: &[Field] = &[
    all(I32, Throttle),
    since(4, I16, Error),
    pass_since(4, List(&[pass(Text), pass(List(TOPIC_AND_ERRORS))])),
    until(3, List(TOPIC_AND_ERRORS), Nothing),
];

pub static ADD_OFFSETS: &[Field] = &[pass(Text), pass(I64), pass(I16), all(Text, Group)];

pub static TXN_OFFSET_COMMIT: &[Field] = &[
    pass(Text),
    all(Text, Group),
    pass(I64),
    pass(I16),
    pass_since(3, I32),
    pass_since(3, Text),
    pass_since(3, Text),
    pass(List(&[
        all(Text, Topic),
        pass(List(&[all(I32, Partition), all(I64, Offset), pass_since(2, I32), pass(Text)])),
    ])),
];

pub static TXN_OFFSET_COMMITTED: &[Field] = &[all(I32, Throttle), pass(List(TOPIC_AND_ERRORS))];

pub static API_VERSIONS_TOLD: &[Field] =
    &[all(I16, ErrorOfVersion), pass(List(&[pass(I16), pass(I16), pass(I16)])), since(1, I32, Throttle)];

pub static ERROR_FIRST: &[Field] = &[all(I16, Error)];

pub static ERROR_SINCE_0: &[Field] = &[all(I32, Throttle), all(I16, Error)];

pub static ERROR_SINCE_1: &[Field] = &[since(1, I32, Throttle), all(I16, Error)];
