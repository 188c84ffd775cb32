//! Tokens to a tree, by operator precedence (Pratt). In: tokens of KFL2 or KFL v1. Out: the tree, and whether words of v1
//! were used. Depth is bounded here, so that whoever walks the tree may recurse.

use super::error::{Fault, Span};
use super::lexer::{Token, tokens};
use super::syntax::{Comparison, Kind, Node};

/// A tree and what its words say of its author's language.
pub struct Parsed {
    /// The tree; `None` for an empty text, which matches everything.
    pub root: Option<Node>,
    /// Words that only KFL v1 has were used.
    pub is_v1: bool,
}

/// How deep an expression may be nested.
const DEPTH: usize = 100;

/// Parses a text.
pub fn parse(text: &str) -> Result<Parsed, Fault> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, is_v1: false };
    if *parser.peek() == Token::End {
        return Ok(Parsed { root: None, is_v1: false });
    }
    let root = parser.expression(0)?;
    if *parser.peek() != Token::End {
        return Err(parser.surplus());
    }
    Ok(Parsed { root: Some(root), is_v1: parser.is_v1 })
}

/// An operator between two operands; a greater number binds tighter.
enum Infix {
    Choice,
    Any,
    All,
    Compare(Comparison),
    In,
    Arithmetic(char),
}

impl Infix {
    fn power(&self) -> u8 {
        match self {
            Infix::Choice => 1,
            Infix::Any => 2,
            Infix::All => 3,
            Infix::Compare(_) | Infix::In => 4,
            Infix::Arithmetic('+' | '-') => 5,
            Infix::Arithmetic(_) => 6,
        }
    }
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    is_v1: bool,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn span(&self) -> Span {
        self.tokens[self.at].1
    }

    /// The next token; the end is never passed.
    fn next(&mut self) -> (Token, Span) {
        let token = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(next) if *next == sign);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, sign: &str, opened: Span) -> Result<Span, Fault> {
        let span = self.span();
        if self.accept(sign) {
            return Ok(span);
        }
        if *self.peek() == Token::End {
            return Err(Fault::new(opened, format!("this is never closed; {sign} is missing")));
        }
        Err(Fault::new(span, format!("{} stands where {sign} is expected", shown(self.peek()))))
    }

    /// A node no higher than allowed, counted from its leaves: a chain to the left is as high as it is long.
    fn node(&self, kind: Kind, span: Span) -> Result<Node, Fault> {
        let height = 1 + kind.children().map(|child| child.height).max().unwrap_or(0);
        if height > DEPTH { Err(too_deep(span)) } else { Ok(Node { kind, span, height }) }
    }

    fn expression(&mut self, least: u8) -> Result<Node, Fault> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(too_deep(self.span()));
        }
        let mut left = self.prefix()?;
        while let Some(infix) = self.infix() {
            if infix.power() < least {
                break;
            }
            self.next();
            left = self.operation(infix, left)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn infix(&mut self) -> Option<Infix> {
        let infix = match self.peek() {
            Token::Sign("?") => Infix::Choice,
            Token::Sign("||") => Infix::Any,
            Token::Sign("&&") => Infix::All,
            Token::Sign(sign @ ("+" | "-" | "*" | "/" | "%")) => {
                Infix::Arithmetic(sign.chars().next().unwrap_or('+'))
            }
            Token::Sign(sign) => return Comparison::of(sign).map(Infix::Compare),
            Token::Name(word) => match word.as_str() {
                "or" => Infix::Any,
                "and" => Infix::All,
                "in" => Infix::In,
                _ => return None,
            },
            _ => return None,
        };
        self.is_v1 |= matches!(self.peek(), Token::Name(word) if word != "in");
        Some(infix)
    }

    fn operation(&mut self, infix: Infix, left: Node) -> Result<Node, Fault> {
        let start = left.span;
        let tighter = infix.power() + 1;
        let kind = match infix {
            Infix::Choice => {
                let then = self.expression(tighter)?;
                self.expect(":", start.to(then.span))?;
                Kind::Choice(left.into(), then.into(), self.expression(infix.power())?.into())
            }
            Infix::All => match left.kind {
                Kind::All(parts) => Kind::All(self.chain("&&", "and", parts, tighter)?),
                _ => Kind::All(self.chain("&&", "and", vec![left], tighter)?),
            },
            Infix::Any => match left.kind {
                Kind::Any(parts) => Kind::Any(self.chain("||", "or", parts, tighter)?),
                _ => Kind::Any(self.chain("||", "or", vec![left], tighter)?),
            },
            Infix::Compare(comparison) => {
                let right = self.expression(tighter)?;
                self.is_v1 |= [&left, &right].iter().any(|side| matches!(side.kind, Kind::Raw(_)));
                Kind::Compare(comparison, left.into(), right.into())
            }
            Infix::In => Kind::In(left.into(), self.expression(tighter)?.into()),
            Infix::Arithmetic(sign) => Kind::Arithmetic(sign, left.into(), self.expression(tighter)?.into()),
        };
        let end = self.tokens[self.at.saturating_sub(1)].1;
        self.node(kind, start.to(end))
    }

    /// The operands that follow one of these signs, the first of which is behind us.
    fn chain(&mut self, sign: &str, word: &str, mut parts: Vec<Node>, least: u8) -> Result<Vec<Node>, Fault> {
        loop {
            parts.push(self.expression(least)?);
            let is_word = matches!(self.peek(), Token::Name(next) if next == word);
            if is_word {
                self.is_v1 = true;
                self.next();
            } else if !self.accept(sign) {
                return Ok(parts);
            }
        }
    }

    fn prefix(&mut self) -> Result<Node, Fault> {
        let (token, span) = self.next();
        let not = |parser: &mut Parser| {
            let operand = parser.expression(7)?;
            let whole = span.to(operand.span);
            parser.node(Kind::Not(operand.into()), whole)
        };
        let kind = match token {
            Token::Sign("!") => return not(self),
            Token::Name(word) if word == "not" => {
                self.is_v1 = true;
                return not(self);
            }
            Token::Sign("-") => {
                let operand = self.expression(7)?;
                let whole = span.to(operand.span);
                return self.node(Kind::Minus(operand.into()), whole);
            }
            Token::Sign("(") => {
                let inner = self.expression(0)?;
                let end = self.expect(")", span)?;
                return self.postfix(Node { span: span.to(end), ..inner });
            }
            Token::Sign("[") => {
                let (parts, end) = self.arguments("]", span)?;
                let list = self.node(Kind::List(parts), span.to(end))?;
                return self.postfix(list);
            }
            Token::Int(number) => Kind::Int(number),
            Token::Double(number) => Kind::Double(number),
            Token::Text(text) => Kind::Text(text),
            Token::Raw(text) => Kind::Raw(text),
            Token::Bytes(bytes) => Kind::Bytes(bytes),
            Token::Name(word) => match word.as_str() {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "null" => Kind::Nil,
                "nil" => {
                    self.is_v1 = true;
                    Kind::Nil
                }
                "and" | "or" | "in" => return Err(missing(&word, span)),
                _ if *self.peek() == Token::Sign("(") => {
                    let opened = self.next().1;
                    let (arguments, end) = self.arguments(")", opened)?;
                    let call = self.node(Kind::Call(None, word, span, arguments), span.to(end))?;
                    return self.postfix(call);
                }
                _ => Kind::Name(word),
            },
            Token::End => return Err(Fault::new(span, "the expression ends too early")),
            Token::Sign(sign) => return Err(missing(sign, span)),
        };
        let leaf = self.node(kind, span)?;
        self.postfix(leaf)
    }

    /// Members, calls and elements of what stands before them.
    fn postfix(&mut self, mut node: Node) -> Result<Node, Fault> {
        loop {
            let opened = self.span();
            if self.accept(".") {
                let (token, span) = self.next();
                let name = match token {
                    Token::Name(name) => name,
                    Token::Sign("*") => return Err(v1_only(span, "wildcards")),
                    other => {
                        return Err(Fault::new(
                            span,
                            format!("{} stands where a name is expected", shown(&other)),
                        ));
                    }
                };
                let called = self.span();
                if self.accept("(") {
                    let (arguments, end) = self.arguments(")", called)?;
                    let whole = node.span.to(end);
                    node = self.node(Kind::Call(Some(node.into()), name, span, arguments), whole)?;
                } else {
                    let whole = node.span.to(span);
                    node = self.node(Kind::Select(node.into(), name), whole)?;
                }
            } else if self.accept("[") {
                let index = self.expression(0)?;
                let end = self.expect("]", opened)?;
                let whole = node.span.to(end);
                node = self.node(Kind::Index(node.into(), index.into()), whole)?;
            } else if *self.peek() == Token::Sign("..") {
                return Err(v1_only(opened, "recursive selectors"));
            } else {
                return Ok(node);
            }
        }
    }

    fn arguments(&mut self, close: &str, opened: Span) -> Result<(Vec<Node>, Span), Fault> {
        let mut parts = Vec::new();
        loop {
            let span = self.span();
            if self.accept(close) {
                return Ok((parts, span));
            }
            parts.push(self.expression(0)?);
            let span = self.span();
            if !self.accept(",") {
                self.expect(close, opened)?;
                return Ok((parts, span));
            }
        }
    }

    /// Something follows a whole expression.
    fn surplus(&self) -> Fault {
        let token = self.peek();
        let fault =
            Fault::new(self.span(), format!("{} stands where the expression should end", shown(token)));
        match token {
            Token::Name(word)
                if ["contains", "startsWith", "endsWith", "matches"].contains(&word.as_str()) =>
            {
                fault.hint(format!("{word} is written after a point: field.{word}(\"…\")"))
            }
            Token::Sign(")" | "]" | "}") => fault.hint("nothing was opened that it could close"),
            Token::Sign(_) => fault,
            _ => fault.hint("join conditions with && or ||"),
        }
    }
}

fn too_deep(span: Span) -> Fault {
    Fault::new(span, format!("the expression is nested more than {DEPTH} deep"))
}

fn missing(sign: &str, span: Span) -> Fault {
    let fault = Fault::new(span, format!("before {sign} something is missing"));
    if sign == "?" { fault.hint("a choice is written condition ? this : that") } else { fault }
}

fn v1_only(span: Span, what: &str) -> Fault {
    Fault::new(span, format!("{what} of KFL v1 have no equal here"))
        .hint("search a text with .contains(\"…\"), a list with .exists(x, x == \"…\")")
}

fn shown(token: &Token) -> String {
    match token {
        Token::Name(word) => word.clone(),
        Token::Int(number) => number.to_string(),
        Token::Double(number) => number.to_string(),
        Token::Text(_) | Token::Raw(_) | Token::Bytes(_) => "a text".into(),
        Token::Sign(sign) => (*sign).into(),
        Token::End => "the end".into(),
    }
}
