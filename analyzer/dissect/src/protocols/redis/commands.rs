//! What is known of commands by their names: which have a key first, which read, which arguments are secrets.
//! From `COMMAND` of Redis 7.0 and the commands later versions added.

/// Commands whose first argument is a key or a channel, sorted.
#[rustfmt::skip]
static KEYED: &[&str] = &[
    "APPEND", "BITCOUNT", "BITFIELD", "BITFIELD_RO", "BITPOS", "BLMOVE", "BLPOP", "BRPOP", "BRPOPLPUSH",
    "BZPOPMAX", "BZPOPMIN", "COPY", "DECR", "DECRBY", "DEL", "DUMP", "EXISTS", "EXPIRE", "EXPIREAT",
    "EXPIRETIME", "GEOADD", "GEODIST", "GEOHASH", "GEOPOS", "GEORADIUS", "GEORADIUSBYMEMBER",
    "GEORADIUSBYMEMBER_RO", "GEORADIUS_RO", "GEOSEARCH", "GEOSEARCHSTORE", "GET", "GETBIT", "GETDEL", "GETEX",
    "GETRANGE", "GETSET", "HDEL", "HEXISTS", "HEXPIRE", "HEXPIREAT", "HEXPIRETIME", "HGET", "HGETALL",
    "HGETDEL", "HGETEX", "HINCRBY", "HINCRBYFLOAT", "HKEYS", "HLEN", "HMGET", "HMSET", "HPERSIST", "HPEXPIRE",
    "HPEXPIREAT", "HPEXPIRETIME", "HPTTL", "HRANDFIELD", "HSCAN", "HSET", "HSETEX", "HSETNX", "HSTRLEN",
    "HTTL", "HVALS", "INCR", "INCRBY", "INCRBYFLOAT", "LCS", "LINDEX", "LINSERT", "LLEN", "LMOVE", "LPOP",
    "LPOS", "LPUSH", "LPUSHX", "LRANGE", "LREM", "LSET", "LTRIM", "MGET", "MOVE", "MSET", "MSETNX", "PERSIST",
    "PEXPIRE", "PEXPIREAT", "PEXPIRETIME", "PFADD", "PFCOUNT", "PFMERGE", "PSETEX", "PSUBSCRIBE", "PTTL",
    "PUBLISH", "PUNSUBSCRIBE", "RENAME", "RENAMENX", "RESTORE", "RESTORE-ASKING", "RPOP", "RPOPLPUSH", "RPUSH",
    "RPUSHX", "SADD", "SCARD", "SDIFF", "SDIFFSTORE", "SET", "SETBIT", "SETEX", "SETNX", "SETRANGE", "SINTER",
    "SINTERSTORE", "SISMEMBER", "SMEMBERS", "SMISMEMBER", "SMOVE", "SORT", "SORT_RO", "SPOP", "SPUBLISH",
    "SRANDMEMBER", "SREM", "SSCAN", "SSUBSCRIBE", "STRLEN", "SUBSCRIBE", "SUBSTR", "SUNION", "SUNIONSTORE",
    "SUNSUBSCRIBE", "TOUCH", "TTL", "TYPE", "UNLINK", "UNSUBSCRIBE", "VADD", "VCARD", "VDIM", "VEMB",
    "VGETATTR", "VINFO", "VISMEMBER", "VLINKS", "VRANDMEMBER", "VREM", "VSETATTR", "VSIM", "WATCH", "XACK",
    "XACKDEL", "XADD", "XAUTOCLAIM", "XCLAIM", "XDEL", "XDELEX", "XLEN", "XPENDING", "XRANGE", "XREVRANGE",
    "XSETID", "XTRIM", "ZADD", "ZCARD", "ZCOUNT", "ZDIFFSTORE", "ZINCRBY", "ZINTERSTORE", "ZLEXCOUNT",
    "ZMSCORE", "ZPOPMAX", "ZPOPMIN", "ZRANDMEMBER", "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE", "ZRANGESTORE",
    "ZRANK", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE", "ZREVRANGE", "ZREVRANGEBYLEX",
    "ZREVRANGEBYSCORE", "ZREVRANK", "ZSCAN", "ZSCORE", "ZUNIONSTORE",
];

/// All others, sorted.
#[rustfmt::skip]
static OTHERS: &[&str] = &[
    "ACL", "ASKING", "AUTH", "BGREWRITEAOF", "BGSAVE", "BITOP", "BLMPOP", "BZMPOP", "CLIENT", "CLUSTER",
    "COMMAND", "CONFIG", "DBSIZE", "DEBUG", "DISCARD", "ECHO", "EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO",
    "EXEC", "FAILOVER", "FCALL", "FCALL_RO", "FLUSHALL", "FLUSHDB", "FUNCTION", "HELLO", "INFO", "KEYS",
    "LASTSAVE", "LATENCY", "LMPOP", "LOLWUT", "MEMORY", "MIGRATE", "MODULE", "MONITOR", "MULTI", "OBJECT",
    "PFDEBUG", "PFSELFTEST", "PING", "PSYNC", "PUBSUB", "QUIT", "RANDOMKEY", "READONLY", "READWRITE",
    "REPLCONF", "REPLICAOF", "RESET", "ROLE", "SAVE", "SCAN", "SCRIPT", "SELECT", "SENTINEL", "SHUTDOWN",
    "SINTERCARD", "SLAVEOF", "SLOWLOG", "SWAPDB", "SYNC", "TIME", "UNWATCH", "WAIT", "XGROUP", "XINFO",
    "XREAD", "XREADGROUP", "ZDIFF", "ZINTER", "ZINTERCARD", "ZMPOP", "ZUNION",
];

/// Commands that look for something by its key, whose reply says whether it was there.
static READS: &[&str] = &[
    "EXISTS",
    "GET",
    "GETEX",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HMGET",
    "JSON.GET",
    "LINDEX",
    "LRANGE",
    "MGET",
    "SISMEMBER",
    "SMEMBERS",
    "ZRANGE",
    "ZSCORE",
];

/// Longest command name.
pub const LONGEST: usize = 64;

/// In any case. A module's commands have a dot in them: JSON.GET, FT.SEARCH.
pub fn is_known(word: &[u8]) -> bool {
    if word.len() > LONGEST {
        return false;
    }
    let upper = word.to_ascii_uppercase();
    let Ok(upper) = std::str::from_utf8(&upper) else { return false };
    is_one_of(KEYED, upper) || is_one_of(OTHERS, upper) || is_of_module(upper)
}

fn is_one_of(sorted: &[&str], upper: &str) -> bool {
    sorted.binary_search(&upper).is_ok()
}

fn is_of_module(upper: &str) -> bool {
    upper.split_once('.').is_some_and(|(module, command)| {
        module.len() >= 2
            && module.bytes().all(|byte| byte.is_ascii_uppercase())
            && !command.is_empty()
            && command.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'.' | b'_'))
    })
}

/// The first argument is a key or a channel.
pub fn has_key(upper: &str) -> bool {
    is_one_of(KEYED, upper) || is_of_module(upper)
}

/// The reply says whether something was found.
pub fn reads(upper: &str) -> bool {
    is_one_of(READS, upper)
}

/// Single words that are a command on a line of their own and nobody else's first line.
pub const INLINE: &[&str] = &[
    "PING\r\n",
    "INFO\r\n",
    "MONITOR\r\n",
    "DBSIZE\r\n",
    "FLUSHALL\r\n",
    "FLUSHDB\r\n",
    "RANDOMKEY\r\n",
    "BGSAVE\r\n",
    "LASTSAVE\r\n",
    "MULTI\r\n",
];

/// Settings whose values are secrets, of `CONFIG SET` and `SENTINEL SET`.
const SECRETS: &[&str] = &[
    "requirepass",
    "masterauth",
    "primaryauth",
    "tls-key-file-pass",
    "tls-client-key-file-pass",
    "auth-pass",
    "sentinel-pass",
];

/// Is an argument a secret? `argument` gives any argument, the first has number 0; `count` is how many there are.
pub fn is_secret<'a>(
    upper: &str,
    at: usize,
    count: usize,
    argument: impl Fn(usize) -> Option<&'a [u8]>,
) -> bool {
    let before = |by: usize, word: &str| {
        let text = at.checked_sub(by).and_then(&argument);
        text.is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()))
    };
    match upper {
        // AUTH password, or AUTH user password.
        "AUTH" => count != 2 || at != 0,
        "HELLO" => before(2, "AUTH"),
        "CONFIG" | "SENTINEL" => SECRETS.iter().any(|name| before(1, name)),
        // MIGRATE ... AUTH password, or AUTH2 user password.
        "MIGRATE" => before(1, "AUTH") || before(2, "AUTH2"),
        // Passwords and their hashes among the rules of a user.
        "ACL" => at >= 2 && argument(at).is_some_and(|rule| matches!(rule, [b'>' | b'<' | b'#' | b'!', ..])),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted() {
        assert!([KEYED, OTHERS, READS].iter().all(|list| list.is_sorted()));
    }

    #[test]
    fn secrets_of_each_command() {
        let secrets = |words: &[&'static str]| -> Vec<usize> {
            let argument = |at: usize| words.get(at + 1).map(|word| word.as_bytes());
            let count = words.len() - 1;
            (0..count).filter(|&at| is_secret(words[0], at, count, argument)).collect()
        };
        assert_eq!(secrets(&["AUTH", "pw"]), [0]);
        assert_eq!(secrets(&["AUTH", "user", "pw"]), [1]);
        assert_eq!(secrets(&["AUTH", "my", "pass", "word"]), [0, 1, 2]);
        assert_eq!(secrets(&["HELLO", "3", "auth", "user", "pw", "SETNAME", "me"]), [3]);
        assert_eq!(secrets(&["CONFIG", "SET", "dir", "/tmp", "RequirePass", "pw"]), [4]);
        assert_eq!(secrets(&["ACL", "SETUSER", "me", "on", ">pw", "~*", "#00ff"]), [3, 5]);
        assert_eq!(secrets(&["MIGRATE", "h", "1", "k", "0", "9", "AUTH2", "me", "pw", "KEYS", "k"]), [7]);
        assert!(secrets(&["SET", "auth", "me"]).is_empty());
    }

    #[test]
    fn words() {
        assert!(is_known(b"get") && is_known(b"JSON.GET") && is_known(b"ft.search"));
        assert!(!is_known(b"message") && !is_known(b"1.5") && !is_known(&[b'A'; 65]));
        assert!(has_key("HGET") && !has_key("CONFIG") && reads("MGET") && !reads("SET"));
    }
}
