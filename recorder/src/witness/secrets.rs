//! Command lines without the secrets that people put into them.
//! In: the arguments of a process. Out: the same as one line, in which what looks like a password, a token or a key is `***`.
//! It rather masks too much than too little: a line in the log goes along with every snapshot.

/// In place of a secret.
const MASK: &str = "***";

/// Parts of the names of flags, variables, headers and fields whose values are secrets.
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
    "cookie",
];

/// Names that are secret as a whole, but common as parts of others.
const WHOLE_NAMES: [&str; 4] = ["pass", "auth", "key", "pw"];

/// Programs whose short flags take secrets: attached to the flag, or behind it.
const SHORT_FLAGS: [(&str, &str); 7] = [
    ("mysql", "-p"),
    ("mariadb", "-p"),
    ("sshpass", "-p"),
    ("redis-cli", "-a"),
    ("curl", "-u"),
    ("ldapsearch", "-w"),
    ("smbclient", "-U"),
];

/// The arguments as a line.
pub fn masked(arguments: &[String]) -> String {
    let program = arguments.first().map(|path| path.rsplit('/').next().unwrap_or(path)).unwrap_or_default();
    let short = SHORT_FLAGS.iter().find(|(name, _)| program.starts_with(name)).map(|(_, flag)| *flag);
    let mut parts: Vec<String> = Vec::with_capacity(arguments.len());
    let mut is_secret = false;
    for (place, argument) in arguments.iter().enumerate() {
        let was_secret = std::mem::take(&mut is_secret);
        parts.push(match short.and_then(|flag| Some((flag, argument.strip_prefix(flag)?))) {
            _ if place == 0 => argument.clone(),
            // A flag behind a flag is no value of it.
            _ if was_secret && !argument.starts_with("--") => MASK.to_owned(),
            Some((_, "")) => {
                // mysql asks for its password at the terminal where none is attached.
                is_secret = !program.starts_with("mysql") && !program.starts_with("mariadb");
                argument.clone()
            }
            Some((flag, _)) if !argument.starts_with("--") => format!("{flag}{MASK}"),
            _ => {
                let name = argument.trim_start_matches('-');
                let is_flag = argument.starts_with('-') && !name.contains(['=', ':', ' ']);
                is_secret = is_flag && (is_secret_name(name) || name == "user" && program == "curl");
                of_argument(argument)
            }
        });
    }
    parts.join(" ")
}

/// One argument: what stands behind secret names in it, and passwords in URLs.
fn of_argument(argument: &str) -> String {
    let mut out = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let separator = &rest[at..=at];
        if let Some(authority) = after.strip_prefix("//").filter(|_| separator == ":") {
            let end = authority.find(['/', '?', '#', ' ', '"', '\'']).unwrap_or(authority.len());
            out.push_str(before);
            out.push_str("://");
            out.push_str(&without_password(&authority[..end]));
            rest = &authority[end..];
            continue;
        }
        let name_at = before.rfind(|c: char| !is_of_name(c)).map_or(0, |at| at + 1);
        // A name in quotes, as JSON has it.
        let quoted = before.trim_end_matches(['"', '\'']);
        let quoted_at = quoted.rfind(|c: char| !is_of_name(c)).map_or(0, |at| at + 1);
        out.push_str(before);
        out.push_str(separator);
        if !is_secret_name(before.get(name_at..).unwrap_or_default())
            && !is_secret_name(quoted.get(quoted_at..).unwrap_or_default())
        {
            rest = after;
            continue;
        }
        let value = after.trim_start();
        out.push_str(&after[..after.len() - value.len()]);
        out.push_str(MASK);
        // A header has blanks in its value, a query and a list of fields end it.
        let ends = if separator == ":" {
            &['"', '\'', ',', ';', '&', '}'][..]
        } else {
            &['"', '\'', ' ', ',', ';', '&', '}'][..]
        };
        let value = value.trim_start_matches(['"', '\'']);
        rest = &value[value.find(ends).unwrap_or(value.len())..];
    }
    out.push_str(rest);
    out
}

/// `user:password@host` without the password.
fn without_password(authority: &str) -> String {
    let Some((user, host)) = authority.rsplit_once('@') else { return authority.to_owned() };
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:{MASK}@{host}"),
        None => authority.to_owned(),
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn is_secret_name(name: &str) -> bool {
    let name: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    // What a file of it is called is no secret, and helps who reads the line.
    let is_path = name.ends_with("file") || name.ends_with("path") || name.ends_with("dir");
    !is_path && (NAMES.iter().any(|part| name.contains(part)) || WHOLE_NAMES.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        masked(&line.split('|').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_and_variables_lose_their_values() {
        for (line, expected) in [
            ("app|--password|hunter2|--port|80", "app --password *** --port 80"),
            ("app|--db-password=hunter2|-v", "app --db-password=*** -v"),
            ("env|PGPASSWORD=hunter2|psql|-h|db", "env PGPASSWORD=*** psql -h db"),
            ("app|--api-key|k1|--token=t1", "app --api-key *** --token=***"),
            ("app|--password-file|/run/secret", "app --password-file /run/secret"),
            ("app|--password|--verbose", "app --password --verbose"),
            ("/usr/bin/mysql|-uroot|-phunter2|shop", "/usr/bin/mysql -uroot -p*** shop"),
            ("mysql|-p|shop", "mysql -p shop"),
            ("redis-cli|-a|hunter2|ping", "redis-cli -a *** ping"),
            ("sshpass|-p|hunter2|ssh|host", "sshpass -p *** ssh host"),
            ("curl|-u|me:hunter2|http://host/", "curl -u *** http://host/"),
            ("curl|--user|me:hunter2|http://host/", "curl --user *** http://host/"),
        ] {
            assert_eq!(of(line), expected);
        }
    }

    #[test]
    fn headers_urls_and_fields_lose_theirs() {
        for (line, expected) in [
            ("curl|-H|Authorization: Bearer abc.def|http://h/", "curl -H Authorization: *** http://h/"),
            (
                "app|postgres://me:hunter2@db:5432/shop?sslmode=off",
                "app postgres://me:***@db:5432/shop?sslmode=off",
            ),
            ("curl|https://h/p?a=1&access_token=xyz&b=2", "curl https://h/p?a=1&access_token=***&b=2"),
            (
                "app|{\"user\":\"me\",\"password\":\"hunter2\",\"n\":1}",
                "app {\"user\":\"me\",\"password\":***\",\"n\":1}",
            ),
            (
                "java|-Djavax.net.ssl.keyStorePassword=hunter2|Main",
                "java -Djavax.net.ssl.keyStorePassword=*** Main",
            ),
            ("app|host=db user=me password=hunter2 port=1", "app host=db user=me password=*** port=1"),
        ] {
            assert_eq!(of(line), expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "nginx: worker process",
            "kubelet|--config=/etc/k.yaml|--v=2",
            "python3|-m|http.server|8000",
            "é|--grüße=ja",
        ] {
            assert_eq!(of(line), line.replace('|', " "));
        }
        assert_eq!(masked(&[]), "");
    }
}
