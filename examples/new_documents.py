"""New documents, written for the demo, in languages that the corpus does not have."""

from typing import Any, Final

from bson import ObjectId

NEW_DOCUMENTS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    (
        "posts",
        {
            "_id": "zh-change-streams",
            "platform": "zhihu",
            "author_id": "lin-wei",
            "content": {
                "标题": "为什么向量索引会过期",
                "正文": "很多团队每天夜里重新计算一次全部向量。白天作者修改了文章，检索返回的"
                "却仍是昨天的版本。变更流可以解决这个问题：数据库每提交一次修改，就发出一个事件，只有受影响的段落才会"
                "重新计算向量，其余段落保持不变。",
            },
        },
    ),
    (
        "articles",
        {
            "_id": ObjectId("656e6465786f6e636861696e"),
            "platform": "blog",
            "link": "https://example.com/zh/rabbitmq",
            "author_id": "lin-wei",
            "content": {
                "Title": "消息队列与幂等写入",
                "Subtitle": "至少一次投递并不可怕",
                "Content": "消息队列保证消息至少投递一次，因此消费者可能会收到重复的消息。"
                "如果写入操作是幂等的，重复就不会造成任何损害：同一个文档总是得到同一个标识，旧版本的修改会被新版本挡住。\n\n"
                "消费者崩溃时，尚未确认的消息会回到队列。重启之后它们会被再次处理，最终结果与没有崩溃时完全"
                "相同。",
                "language": "zh",
            },
        },
    ),
    (
        "articles",
        {
            "_id": "fr-pannes",
            "platform": "blog",
            "link": "https://example.com/fr/pannes",
            "author_id": "elodie-lefevre",
            "content": {
                "Title": "Que devient un message quand le consommateur tombe en panne ?",
                "Subtitle": "Accusés de réception, reprise et files de rebut",
                "Content": "Tant que le consommateur n'a pas envoyé d'accusé de "
                "réception, le courtier garde le message. Si le processus s'arrête "
                "brutalement, le message est remis en file et sera traité après le redémarrage "
                ": rien n'est perdu.\n\nUn message illisible, lui, ne doit pas bloquer les "
                "autres. Après quelques essais, on le dépose dans une file de rebut avec la "
                "raison de l'échec, et un être humain décide de la suite.",
                "language": "fr",
            },
        },
    ),
    (
        "posts",
        {
            "_id": 7_000_001,
            "platform": "linkedin",
            "author_id": "elodie-lefevre",
            "link": "https://example.com/fr/decoupage",
            "content": "Découper un texte en morceaux, c'est comme couper une baguette "
            ": si l'on coupe au hasard, on retrouve des miettes partout. Coupez aux frontières "
            "naturelles, paragraphes puis phrases, et une correction au milieu de l'article ne "
            "déplacera pas tous les morceaux suivants. 🥖",
        },
    ),
    (
        "repositories",
        {
            "_id": ObjectId("7265706f7274696e67727573"),
            "name": "token-bucket",
            "link": "https://example.com/git/token-bucket",
            "owner_id": "amara-okafor",
            "content": {
                "src/lib.rs": """use std::time::{Duration, Instant};

/// A token bucket: `capacity` requests at once, one more every `refill`.
pub struct TokenBucket {
    capacity: u32,
    tokens: u32,
    refill: Duration,
    refilled_at: Instant,
}

impl TokenBucket {
    pub fn new(capacity: u32, refill: Duration) -> Self {
        Self { capacity, tokens: capacity, refill, refilled_at: Instant::now() }
    }

    /// Take one token, or say how long to wait for the next.
    pub fn take(&mut self) -> Result<(), Duration> {
        let elapsed = self.refilled_at.elapsed();
        let gained = (elapsed.as_nanos() / self.refill.as_nanos()) as u32;
        if gained > 0 {
            self.tokens = (self.tokens + gained).min(self.capacity);
            self.refilled_at += self.refill * gained;
        }
        if self.tokens == 0 {
            return Err(self.refill - self.refilled_at.elapsed());
        }
        self.tokens -= 1;
        Ok(())
    }
}
""",
                "go/limit.go": """package limit

import "net/http"

// Limited answers 429 Too Many Requests when the bucket of the caller is empty.
func Limited(bucket *Bucket, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wait, ok := bucket.Take(r.RemoteAddr); !ok {
			w.Header().Set("Retry-After", wait.String())
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}
""",
                "README.md": "# token-bucket\n\nRate limiting in Rust with a Go "
                "middleware: a burst is allowed, then requests are let through at a steady "
                "rate.\n",
            },
        },
    ),
    (
        "repositories",
        {
            "_id": "lru-cache-ts",
            "name": "lru-cache-ts",
            "link": "https://example.com/git/lru-cache-ts",
            "owner_id": "amara-okafor",
            "content": {
                "src/lru.ts": """/** Keeps the `limit` entries that were used last. */
export class LruCache<K, V> {
  private readonly entries = new Map<K, V>();

  constructor(private readonly limit: number) {}

  get(key: K): V | undefined {
    const value = this.entries.get(key);
    if (value !== undefined) {
      // A Map iterates in insertion order: to insert again is to mark as used.
      this.entries.delete(key);
      this.entries.set(key, value);
    }
    return value;
  }

  set(key: K, value: V): void {
    this.entries.delete(key);
    this.entries.set(key, value);
    if (this.entries.size > this.limit) {
      this.entries.delete(this.entries.keys().next().value as K);
    }
  }
}
""",
                "sql/evictions.sql": """-- Keys evicted, and asked for again within a minute.
SELECT e.cache_key, count(*) AS misses
FROM evictions AS e
JOIN misses AS m ON m.cache_key = e.cache_key
  AND m.at BETWEEN e.at AND e.at + INTERVAL '1 minute'
GROUP BY e.cache_key
ORDER BY misses DESC;
""",
            },
        },
    ),
)
"""As (collection, document)."""
