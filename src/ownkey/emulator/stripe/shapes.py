"""The empty shape of every object: the fields that the SDK's types declare as Optional and that Stripe always sends.

Read off the annotations of the official SDK (16.1.0). Fields that only appear when they are expanded are left out.
"""

from .refusals import Json

_TABLE = """
account: business_type country default_currency email metadata
balance_transaction: description exchange_rate source
billing_portal.configuration: application default_return_url metadata name
billing_portal.session: after_expiration customer_account flow locale on_behalf_of return_url
charge: application application_fee_amount balance_transaction calculated_statement_descriptor customer description
  failure_balance_transaction failure_code failure_message fraud_details on_behalf_of outcome payment_intent
  payment_method payment_method_details radar_options receipt_email receipt_number receipt_url review shipping
  source_transfer statement_descriptor statement_descriptor_suffix transfer_data transfer_group
checkout.session: adaptive_pricing after_expiration allow_promotion_codes allowed_payment_method_types amount_subtotal
  amount_total billing_address_collection branding_settings cancel_url client_reference_id client_secret
  collected_information consent consent_collection currency currency_conversion customer customer_account
  customer_creation customer_details customer_email discounts integration_identifier invoice invoice_creation locale
  metadata origin_context payment_intent payment_link payment_method_collection payment_method_options permissions
  phone_number_collection recovered_from redirect_on_completion return_url saved_payment_method_options setup_intent
  shipping_address_collection shipping_cost status submit_type subscription success_url tax_id_collection
  total_details ui_mode url wallet_options
customer: address balance currency default_source delinquent description discount email invoice_prefix
  invoice_settings metadata name next_invoice_sequence phone preferred_locales shipping tax_exempt test_clock
dispute: payment_intent
event: api_version request
invoice: account_country account_name account_tax_ids application auto_advance automatically_finalizes_at
  billing_reason custom_fields customer customer_account customer_address customer_email customer_name customer_phone
  customer_shipping customer_tax_exempt customer_tax_ids default_payment_method default_source description due_date
  effective_at ending_balance footer from_invoice hosted_invoice_url invoice_pdf last_finalization_error
  latest_revision metadata next_payment_attempt number on_behalf_of parent receipt_number shipping_cost
  shipping_details statement_descriptor status status_details subtotal_excluding_tax test_clock total_discount_amounts
  total_excluding_tax total_pretax_credit_amounts total_taxes webhooks_delivered_at
invoiceitem: customer_account description discounts frozen_fields invoice invoicing_rules metadata net_amount parent
  pricing proration_details tax_rates test_clock
line_item: description discount_amounts invoice parent pretax_credit_amounts pricing quantity quantity_decimal
  subscription taxes
invoice_payment: amount_paid
item: adjustable_quantity description discounts metadata price quantity taxes
payment_intent: allowed_payment_method_types application application_fee_amount automatic_payment_methods canceled_at
  cancellation_reason client_secret customer customer_account description excluded_payment_method_types
  last_payment_error latest_charge next_action on_behalf_of payment_method payment_method_configuration_details
  payment_method_options processing receipt_email review setup_future_usage shipping source statement_descriptor
  statement_descriptor_suffix transfer_data transfer_group
payment_method: allow_redisplay customer customer_account metadata
plan: amount amount_decimal metadata meter nickname product tiers_mode transform_usage trial_period_days
price: custom_unit_amount lookup_key nickname recurring tax_behavior tiers_mode transform_quantity unit_amount
  unit_amount_decimal
product: default_price description package_dimensions shippable statement_descriptor tax_code unit_label url
refund: balance_transaction charge customer customer_account destination_details metadata payment_intent
  payment_method pending_reason reason receipt_number source_transfer_reversal status transfer_reversal
subscription: application application_fee_percent billing_cycle_anchor_config billing_thresholds cancel_at canceled_at
  cancellation_details customer_account days_until_due default_payment_method default_source default_tax_rates
  description ended_at latest_invoice managed_payments next_pending_invoice_item_invoice on_behalf_of pause_collection
  payment_settings pending_invoice_item_interval pending_setup_intent pending_update schedule status_details
  test_clock transfer_data trial_end trial_settings trial_start
subscription_item: billed_until billing_thresholds quantity tax_rates
test_helpers.test_clock: name
webhook_endpoint: api_version application description
"""


def _read(table: str) -> dict[str, list[str]]:
    """`kind: field field …`, a continued line begins with two spaces."""
    rows = (row.partition(": ") for row in table.replace("\n  ", " ").strip().splitlines())
    return {kind: fields.split() for kind, _, fields in rows}


NULLABLE = _read(_TABLE)


def blank(kind: str) -> Json:
    """An object of this kind with every nullable field null."""
    return {"object": kind, **dict.fromkeys(NULLABLE[kind])}
