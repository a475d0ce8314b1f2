"""The body fields of chat completions, embeddings and responses, sorted by what they mean for money and routing.

From OpenAI's and OpenRouter's OpenAPI documents (read in October 2026). A field that is in none of these lists
is passed on as it is, but a request that has one has no known maximum cost.
"""

OPENAI_CHAT = frozenset(
    {
        "messages", "model", "audio", "frequency_penalty", "function_call", "functions", "logit_bias",
        "logprobs", "max_completion_tokens", "max_tokens", "metadata", "modalities", "moderation", "n",
        "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
        "prompt_cache_options", "prompt_cache_retention", "reasoning_effort", "response_format",
        "safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options",
        "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
        "web_search_options",
    }
)

OPENROUTER_CHAT = frozenset(
    {
        "cache_control", "debug", "image_config", "include_reasoning", "min_p", "models", "plugins",
        "preset", "provider", "reasoning", "repetition_penalty", "route", "session_id",
        "stop_server_tools_when", "top_a", "top_k", "trace", "transforms", "usage",
    }
)

OPENAI_EMBEDDINGS = frozenset(
    {
        "input", "model", "encoding_format", "dimensions", "user",
    }
)
OPENROUTER_EMBEDDINGS = frozenset({"input_type", "provider"})

OPENAI_RESPONSES = frozenset(
    {
        "background", "context_management", "conversation", "include", "input", "instructions",
        "max_output_tokens", "max_tool_calls", "metadata", "model", "moderation", "parallel_tool_calls",
        "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store", "stream",
        "stream_options", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p",
        "truncation", "user",
    }
)

OPENROUTER_RESPONSES = frozenset(
    {
        "cache_control", "debug", "deferred_tools", "frequency_penalty", "image_config", "modalities", "models",
        "plugins", "presence_penalty", "preset", "provider", "route", "session_id", "stop",
        "stop_server_tools_when", "top_k", "trace",
    }
)

# Understood by OpenRouter alone, yet with a meaning in the neutral form: a translated route can carry them.
TRANSLATABLE = frozenset(
    {
        "cache_control", "include_reasoning", "reasoning", "top_k", "usage",
    }
)

# What these cost has no priced maximum: the router or the model may search, loop or draw as often as it likes,
# a preset or a stored prompt may be anything, rejected predictions are billed beside the answer, and compacting a
# conversation is an answer of its own.
UNBOUNDABLE = frozenset(
    {
        "web_search_options", "plugins", "preset", "stop_server_tools_when", "prediction", "moderation",
        "audio", "image_config", "prompt", "context_management", "deferred_tools",
    }
)

# Settings of the request, not of the prompt: sampling, limits, routing and book-keeping. No provider shows them to the
# model, so their bytes are no tokens. What a template may repeat (tools, formats, effort, verbosity) is not among them.
SILENT = frozenset(
    {
        "model", "models", "max_tokens", "max_completion_tokens", "max_output_tokens", "temperature", "top_p", "top_k",
        "top_a", "min_p", "n", "best_of", "seed", "stop", "stream", "stream_options", "frequency_penalty",
        "presence_penalty", "repetition_penalty", "logprobs", "top_logprobs", "user", "metadata", "store",
        "service_tier", "provider", "usage", "route", "session_id", "trace", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "encoding_format", "dimensions",
    }
)

# Values that ask for none of them. An empty object is not among them: `"web_search_options": {}` searches.
SAYS_NOTHING = (b"null", b"[]")

# Tools that the caller runs; every other kind is run and billed by the provider.
CLIENT_TOOLS = frozenset({"function", "custom"})

# Fields of other gateways and of SDK constructors that say where a request goes or with which key.
STEERING = frozenset(
    {
        "api_base", "api_key", "api_type", "api_version", "azure_ad_token", "azure_deployment",
        "azure_endpoint", "base_url", "callbacks", "custom_llm_provider", "default_headers",
        "deployment_id", "extra_body", "extra_headers", "extra_query", "fallbacks", "headers",
        "http_client", "model_list", "organization", "proxies", "proxy", "proxy_url", "region_name",
        "success_callback",
    }
)
STEERING_PREFIXES = ("aws_", "azure_", "litellm_", "vertex_")
