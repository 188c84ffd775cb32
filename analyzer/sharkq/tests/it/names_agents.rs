//! The pods of the ledger of names. In: commands. Out: what their programs opened, as they know it. Gone when dropped.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::programs::{FIXTURES, printed, within};

/// A node with its pods.
pub struct Net {
    name: String,
}

impl Net {
    /// None where this machine does not permit it.
    pub fn up() -> Option<Net> {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        if !mounts.iter().any(|mount| Path::new(mount).join("cgroup.procs").exists()) {
            eprintln!("skipped: no cgroup hierarchy of version 2");
            return None;
        }
        let net = Net { name: format!("w{}", std::process::id() % 100_000) };
        let output = net.command(&["up"]).output().expect("it starts");
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(words.contains("ermi"), "{words}");
            eprintln!("skipped: {words}");
            return None;
        }
        Some(net)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = within(60, format!("{FIXTURES}/make/names.sh"));
        command.args(arguments).env("NET", &self.name);
        command
    }

    pub fn script(&self, arguments: &[&str]) {
        printed(&mut self.command(arguments));
    }

    /// Uid of a pod, as its cgroups have it, and id of a container.
    pub fn ids(&self, pod: &str, container: &str) -> (String, String) {
        let line = printed(&mut self.command(&["ids", pod, container]));
        let (uid, id) = line.trim().split_once(' ').expect("two words");
        (uid.to_owned(), id.to_owned())
    }

    /// A command in the network of the node.
    pub fn at_node(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}-node", self.name)).arg(program);
        command
    }

    pub fn agent(&self, space: &str, pod: &str, container: &str, ip: &str) -> Agent {
        self.agent_of(Path::new("/usr/bin/python3"), space, pod, container, ip)
    }

    pub fn agent_of(&self, python: &Path, space: &str, pod: &str, container: &str, ip: &str) -> Agent {
        let mut command = Command::new(format!("{FIXTURES}/make/names.sh"));
        command.env("NET", &self.name).env("PYTHONHOME", "/usr");
        command.args(["run", space, pod, container]).arg(python);
        command.arg(format!("{FIXTURES}/make/names.py")).arg(ip);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let (pod, container) = (pod.to_owned(), container.to_owned());
        let mut agent = Agent { child, input, output: BufReader::new(output), pod, container };
        agent.answer();
        agent
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

/// A program in a container of a pod.
pub struct Agent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub pod: String,
    container: String,
}

impl Agent {
    pub fn told(&mut self, command: &str) {
        writeln!(self.input, "{command}").expect("it listens");
    }

    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        assert!(
            self.output.read_line(&mut line).expect("text") > 0,
            "{} of {} ended",
            self.container,
            self.pod
        );
        serde_json::from_str(&line).expect("JSON")
    }

    pub fn does(&mut self, command: &str) {
        self.told(command);
        self.answer();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program opened, and who was at both ends: of the client and of the server.
#[derive(Clone, Debug)]
pub struct Flow {
    pub case: String,
    proto: String,
    src: String,
    dst: String,
    pub ns: i64,
    pub pod: [String; 2],
    /// None where no process answered.
    pub container: [Option<String>; 2],
}

impl Flow {
    /// `[case, proto, ip, port, ip, port, time]`.
    pub fn new(told: &Value, agent: &Agent, (pod, container): (&str, Option<&str>)) -> Flow {
        let word = |at: usize| told[at].as_str().expect("text").to_owned();
        Flow {
            case: word(0),
            proto: word(1),
            src: format!("{}:{}", word(2), told[3]),
            dst: format!("{}:{}", word(4), told[5]),
            ns: told[6].as_i64().expect("a time"),
            pod: [agent.pod.clone(), pod.to_owned()],
            container: [Some(agent.container.clone()), container.map(str::to_owned)],
        }
    }

    pub fn ends(&self) -> String {
        format!("{} {} {}", self.proto, self.src, self.dst)
    }

    pub fn is_answered_question(&self) -> bool {
        self.proto == "udp" && self.container[1].is_some()
    }
}

pub fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_else(|| panic!("{key} in {of}"))
}
