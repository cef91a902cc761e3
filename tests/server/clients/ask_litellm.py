"""Asks the gateway through LiteLLM, and prints what came as JSON. Runs in an environment of its own."""

import json
import sys

import litellm

url, key, prefix, suffix = sys.argv[1:]
where = {"model": "text-completion-openai/codecascade", "api_base": url, "api_key": key}
completed = litellm.text_completion(prompt=prefix, suffix=suffix, **where)
streamed = litellm.text_completion(prompt=prefix, suffix=suffix, stream=True, **where)
chat = {**where, "model": "openai/codecascade", "messages": [{"role": "user", "content": f"```python\n{prefix}```"}]}
print(
    json.dumps(
        {
            "completed": completed.choices[0].text,
            "streamed": "".join(chunk.choices[0].text or "" for chunk in streamed),
            "chatted": litellm.completion(**chat).choices[0].message.content,
        }
    )
)
