"""The body fields, tools and content blocks of Anthropic's Messages, sorted by what they mean for money and routing.

From the parameter types of the official SDK (anthropic 2.12, beta ones included), from OpenRouter's OpenAPI document
for its `/messages` (read in October 2026) and from recorded requests, which have the older names. A field that is in
none of these lists is passed on as it is, but a request that has one has no known maximum cost.
"""

ANTHROPIC = frozenset(
    {
        "billing_policy", "cache_control", "compaction", "container", "context_management", "diagnostics",
        "fallback_credit_token", "fallbacks", "inference_geo", "max_tokens", "mcp_servers", "messages", "metadata",
        "model", "output_config", "output_format", "service_tier", "speed", "stop_sequences", "stream", "system",
        "temperature", "thinking", "thread", "tool_choice", "tools", "top_k", "top_p",
    }
)

OPENROUTER = frozenset(
    {
        "models", "plugins", "preset", "provider", "route", "session_id", "stop_server_tools_when", "trace", "user",
    }
)

# Understood by OpenRouter alone, yet labels without influence on an answer: a translated route carries or names them.
TRANSLATABLE = frozenset({"session_id", "trace", "user"})

# Settings of the request, not of the prompt, as in `openai_fields`: their bytes are no tokens.
SILENT = frozenset(
    {
        "max_tokens", "metadata", "model", "models", "provider", "route", "service_tier", "session_id",
        "stop_sequences", "stream", "temperature", "top_k", "top_p", "trace", "user",
    }
)

# What these cost has no priced maximum: servers that are called in a loop, summaries sampled before the answer, a
# dearer model instead of the one that was named, a preset or a plugin that may be anything.
UNBOUNDABLE = frozenset(
    {
        "compaction", "fallbacks", "mcp_servers", "plugins", "preset", "stop_server_tools_when",
    }
)

# They raise the price of every token, unless they say what happens anyway. The first has no listed price.
SURCHARGES = {"inference_geo": frozenset({"global", "not_available"}), "speed": frozenset({"standard"})}

# These only remove tokens from the conversation; other edits have the model write a summary first.
FREE_CONTEXT_EDITS = frozenset({"clear_tool_uses_20250919", "clear_thinking_20251015"})

# They point at what Anthropic has stored or given out for one of its customers.
STATEFUL = frozenset({"fallback_credit_token", "thread"})

# Tools that the caller runs. Those that Anthropic has typed come with a prompt of its own, whose length is not in the
# body; all other types run on a server, which may search, fetch, execute or ask another model as often as it likes.
CUSTOM_TOOL = "custom"
TYPED_CLIENT_TOOLS = ("bash_", "browser_toolset_", "computer_", "memory_", "text_editor_")

TEXT_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "tool_result"})

# A block that brings a tool into a conversation, whatever it may be.
TOOL_BRINGING_BLOCKS = frozenset({"tool_addition"})
