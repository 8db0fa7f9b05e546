"""Mutations of webhooks, secrets and automations."""

from __future__ import annotations

from wandb_standin.automations import Integration, Trigger, scope_of
from wandb_standin.context import Context
from wandb_standin.errors import RefusedError, not_found, permission_denied
from wandb_standin.fields.registry import Input, resolver
from wandb_standin.model import Entity, Role, now


@resolver("Mutation.createGenericWebhookIntegration")
def create_webhook(_: None, ctx: Context, input: Input) -> dict[str, Integration]:
    entity = _administered(ctx, input["entity_name"])
    new = ctx.automations.add_integration(
        entity, input["name"], input["url_endpoint"], input.get("access_token_ref"), input.get("secret_ref")
    )
    return {"integration": new}


@resolver("Mutation.insertSecret")
def insert_secret(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    entity = _administered(ctx, input["entity_name"])
    ctx.automations.secrets[entity.name, input["secret_name"]] = input["secret_value"]
    return {"success": True}


@resolver("Mutation.createFilterTrigger")
def create_trigger(_: None, ctx: Context, input: Input) -> dict[str, Trigger]:
    ctx.require_user()
    integration, payload = _action(ctx, input["triggered_action_type"], input["triggered_action_config"])
    trigger = ctx.automations.add_trigger(
        name=input["name"],
        description=input.get("description"),
        enabled=input["enabled"],
        scope=scope_of(ctx.store, input["scope_type"], input["scope_id"]),
        event_type=input["triggering_event_type"],
        event_filter=input["event_filter"],
        integration=integration,
        request_payload=payload,
    )
    return {"trigger": trigger}


@resolver("Mutation.updateFilterTrigger")
def update_trigger(_: None, ctx: Context, input: Input) -> dict[str, Trigger]:
    ctx.require_user()
    trigger = ctx.automations.trigger(input["id"])
    for field, attribute in {
        "name": "name",
        "description": "description",
        "enabled": "enabled",
        "triggering_event_type": "event_type",
        "event_filter": "event_filter",
    }.items():
        if input.get(field) is not None:
            setattr(trigger, attribute, input[field])
    if input.get("scope_id") and input.get("scope_type"):
        trigger.scope = scope_of(ctx.store, input["scope_type"], input["scope_id"])
    if input.get("triggered_action_type") and input.get("triggered_action_config"):
        action = _action(ctx, input["triggered_action_type"], input["triggered_action_config"])
        trigger.integration, trigger.request_payload = action
    trigger.updated_at = now()
    return {"trigger": trigger}


@resolver("Mutation.deleteTrigger")
def delete_trigger(_: None, ctx: Context, input: Input) -> dict[str, bool]:
    ctx.require_user()
    del ctx.automations.triggers[ctx.automations.trigger(input["trigger_id"]).id]
    return {"success": True}


def _administered(ctx: Context, entity_name: str) -> Entity:
    user = ctx.require_user()
    entity = ctx.store.entities.get(entity_name)
    if entity is None:
        raise not_found(f"entity {entity_name!r}")
    if user.roles.get(entity_name, user.roles.get("*", Role.NONE)) < Role.MEMBER:
        raise permission_denied()
    return entity


def _action(ctx: Context, action_type: str, config: Input) -> tuple[Integration | None, str | None]:
    if action_type == "NO_OP":
        return None, None
    webhook = config.get("generic_webhook_action_input")
    if action_type != "GENERIC_WEBHOOK" or not webhook:
        raise RefusedError(f"this server's automations post webhooks or do nothing, not {action_type}")
    return ctx.automations.integration(webhook["integration_id"]), webhook.get("request_payload")
